"""docs/extending.md: each example is really added, used, and gone again."""

import json
import re
import sys
import types
from dataclasses import replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import test_finish_fit as made_up
from hectocar import codec
from hectocar.calibration import chain, fit_chain
from hectocar.calibration.chain import Finish
from hectocar.cli import commands, main
from hectocar.codec import decode, encode
from hectocar.config import schema
from hectocar.errors import ArtifactError, ConfigError
from hectocar.network import sources
from hectocar.network.backbone import create_backbone
from hectocar.network.carnet import CarNet
from tiny import make_config, make_fold, train, write_photos

DOCS = Path(__file__).resolve().parents[1] / "docs" / "extending.md"


def load_example(name: str, known: dict[str, Any] | None = None) -> types.ModuleType:
    """The module that an example of the page is."""
    (code,) = re.findall(rf"^```python {name}\n(.*?)^```", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    module = types.ModuleType(f"example_{name}")
    vars(module).update(known or {})
    sys.modules[module.__name__] = module  # dataclasses look for their module
    exec(compile(code, str(DOCS), "exec"), vars(module))
    return module


def test_a_command_is_one_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is in the help, checks its options, prints and ends as all others."""
    monkeypatch.setitem(commands.COMMANDS, "hello", load_example("command"))
    assert main(["--help"]) == 0
    assert "greet" in capsys.readouterr().out
    assert main(["hello", "--times", "2"]) == 0
    assert capsys.readouterr().out == "hello\nhello\n"
    assert main(["hello", "--times", "10"]) == 2
    assert "--times is 10; allowed: 1 to 9" in capsys.readouterr().err


def test_a_link_is_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has something to do it is fitted, kept, written, read and served; elsewhere the one rule leaves it out."""
    link = load_example("link").PriorLink
    links = (*chain.LINKS[:2], link, *chain.LINKS[2:])
    for module in (chain, fit_chain):
        monkeypatch.setattr(module, "LINKS", links)
    monkeypatch.setitem(chain.Level.__annotations__, "links", tuple[reduce(or_, links), ...])
    codec._hints.cache_clear()
    prior = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    monkeypatch.setattr(made_up, "PRIOR", prior)
    unusable = made_up.make_evidence(2, ("dark", "noise"), unusable=True)
    plain = made_up.make_evidence(1, ("clean",), neighbours=0.0)
    bent = replace(plain, log_probs=tuple((table + np.log(prior)).astype(np.float32) for table in plain.log_probs))
    bent = replace(bent, log_probs=tuple(made_up.normalize_logits(table) for table in bent.log_probs))
    try:
        finish = made_up.fit(bent, unusable).finish
        found = finish.choose(None).find(link)
        assert found is not None
        assert found.power > 0.0
        again = decode(Finish, json.loads(json.dumps(encode(finish))), "bundle.json")
        assert again.choose(None).find(link) == found
        assert np.array_equal(made_up.apply(again, bent), made_up.apply(finish, bent))
        assert made_up.fit(plain, unusable).finish.choose(None).find(link) is None
        with pytest.raises(ArtifactError, match=r"kind is 'priory'; allowed: .*'prior'"):
            decode(Finish, json.loads(json.dumps(encode(finish)).replace('"prior"', '"priory"')), "bundle.json")
    finally:
        codec._hints.cache_clear()


def test_a_head_is_two_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It trains; mining and label noise go without centres; a margin that it does not have is refused by the configuration."""
    monkeypatch.setitem(sys.modules, "cosine_head", load_example("head"))
    monkeypatch.setattr(schema, "HEADS", dict(schema.HEADS))
    monkeypatch.setattr("hectocar.network.heads.HEADS", schema.HEADS)
    load_example("entry", {"HEADS": schema.HEADS, "HeadKind": schema.HeadKind})
    with pytest.raises(ConfigError, match=r"margin_rad 0 in every phase when network\.head is 'cosine'"):
        make_config(network={"head": "cosine"})
    margins = (schema.TrainingConfig().margins[0],)
    config = make_config(network={"head": "cosine"}, margins=(replace(margins[0], margin_rad=0.0),), similar_prob=0.5)
    result = train(config, make_fold(write_photos(tmp_path / "photos")), tmp_path / "fold")
    assert np.isfinite(result["log_loss"])
    head = CarNet(config.network, 3, weights="none").head
    assert type(head).__name__ == "CosineHead"
    assert head.compute_closeness() is None


def test_a_source_is_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It fills a backbone, and what it does not have is refused as of any file."""
    monkeypatch.setattr(sources, "SOURCES", [load_example("source").Folder, *sources.SOURCES])
    torch.manual_seed(3)
    donor = timm.create_model("test_resnet", pretrained=False).state_dict()
    save_file(donor, tmp_path / "test_resnet.safetensors")
    filled = create_backbone("test_resnet", f"folder:{tmp_path}", 0.0).state_dict()
    assert all(torch.equal(value, donor[key]) for key, value in filled.items())
    with pytest.raises(ArtifactError, match="does not exist"):
        create_backbone("test_efficientnet", f"folder:{tmp_path}", 0.0)
