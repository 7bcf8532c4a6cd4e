"""Laws of backbones: a model's own weights fill it whatever they are wrapped in, and what cannot work is refused early."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hectocar.auditing.embedder import build_embedder
from hectocar.config.schema import Config, NetworkConfig, SizePhase
from hectocar.errors import ArtifactError, ConfigError
from hectocar.lab.step_cost import measure_step_costs
from hectocar.network.backbone import create_backbone
from hectocar.network.carnet import CarNet
from hectocar.network.sizes import check_network, check_sizes
from hectocar.network.sources import load_tensors
from hectocar.progress import NoProgress
from hectocar.training.run import create_run
from tiny import CPU, make_config, write_photos

NAME = "test_vit"  # patches of 16 px, 160 px its own size
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")


def make_donor(name: str = NAME, **settings: Any) -> nn.Module:
    """A whole model in evaluation mode, none of whose weights is what a fresh one would have."""
    donor: nn.Module = timm.create_model(name, pretrained=False, **settings).eval()
    with torch.no_grad():
        for value in donor.state_dict().values():
            if value.is_floating_point():
                value.add_(0.02 * torch.rand_like(value))
    return donor


def assert_filled(backbone: nn.Module, donor: dict[str, Tensor]) -> None:
    state = backbone.state_dict()
    assert state
    assert all(torch.equal(value, donor[name]) for name, value in state.items())


PREFIXES = ("module._orig_mod.", "_orig_mod.module.", "model.", "backbone.", "encoder.", "model.backbone.")


@pytest.mark.parametrize(
    ("wrapper", "prefix"), [(name, "") for name in WRAPPERS] + [("state_dict", name) for name in PREFIXES] + [("", "")]
)
def test_wrappings_of_trainings_are_taken_off(wrapper: str, prefix: str, tmp_path: Path) -> None:
    """Whatever key the tensors lie under and whatever prefix a wrapper gave them, every weight is the file's, to the bit."""
    donor = make_donor().state_dict()
    tensors: dict[str, Any] = {prefix + name: value for name, value in donor.items()}
    if "backbone." in prefix:
        tensors |= {"head.weight": torch.zeros(3, 5), "neck.running_mean": torch.zeros(3)}  # another program's own
    args = argparse.Namespace(lr=0.1, name="a")
    beside = {"epoch": 3, "args": args, "best": np.float64(0.5), "step": np.int64(7), "done": np.bool_(True)}
    torch.save({wrapper: tensors, **beside} if wrapper else tensors | beside, tmp_path / "w.pth")
    assert_filled(create_backbone(NAME, str(tmp_path / "w.pth"), 0.0), donor)


def test_the_average_of_the_weights_is_preferred_as_timm_does(tmp_path: Path) -> None:
    """Of weights and their average in one file the average is taken; one inside the other is found."""
    donor, other = make_donor().state_dict(), make_donor().state_dict()
    torch.save({"state_dict": other, "state_dict_ema": donor}, tmp_path / "w.pth")
    assert_filled(create_backbone(NAME, str(tmp_path / "w.pth"), 0.0), donor)
    torch.save({"model": {"state_dict": donor, "epoch": 1}}, tmp_path / "w.pth")
    assert_filled(create_backbone(NAME, str(tmp_path / "w.pth"), 0.0), donor)


@pytest.mark.parametrize("name", ["w.bin", "w.pth", "w"])
def test_the_content_decides_not_the_suffix(name: str, tmp_path: Path) -> None:
    """safetensors under another suffix and a PyTorch file under theirs are read."""
    donor = make_donor().state_dict()
    save_file(donor, tmp_path / name)
    assert_filled(create_backbone(NAME, str(tmp_path / name), 0.0), donor)
    torch.save(donor, tmp_path / "w.safetensors")
    assert load_tensors(tmp_path / "w.safetensors").keys() == donor.keys()


def test_positions_of_another_size_are_resampled_as_timm_does(tmp_path: Path) -> None:
    """A transformer trained at 224 px fills one of 160 px; its positions are what timm itself makes of them."""
    donor = make_donor(img_size=224).state_dict()
    save_file(donor, tmp_path / "w.safetensors")
    backbone = create_backbone(NAME, str(tmp_path / "w.safetensors"), 0.0)
    theirs = timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(donor)}).state_dict()
    assert_filled(backbone, theirs)
    assert theirs["pos_embed"].shape != donor["pos_embed"].shape


def test_the_final_norm_is_the_pretrained_models(tmp_path: Path) -> None:
    """eva02 has its norm behind the average: it is filled, and our averaged embedding is timm's own, to rounding."""
    donor = make_donor("eva02_tiny_patch14_224")
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    config = NetworkConfig(
        backbone="eva02_tiny_patch14_224", weights=str(tmp_path / "w.safetensors"), pool="avg", drop_path_max=0.0
    )
    network = CarNet(config, 3).eval()
    assert_filled(network.backbone, donor.state_dict())
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        theirs = donor.forward_head(donor.forward_features(images), pre_logits=True)
        torch.testing.assert_close(network.embed(images), theirs, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match=r"cannot take 100 px .*sizes that it takes: 98 and 112"):
        check_sizes(network, [224, 100])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_named(value: float, tmp_path: Path) -> None:
    """One NaN or infinity among the weights is refused where they are loaded, with the tensor's name."""
    donor = make_donor().state_dict()
    donor["blocks.1.mlp.fc1.weight"][3, 4] = value
    save_file(donor, tmp_path / "w.safetensors")
    with pytest.raises(ArtifactError, match=r"NaN or infinite numbers in 1 tensors, \['blocks\.1\.mlp\.fc1\.weight'\]"):
        create_backbone(NAME, str(tmp_path / "w.safetensors"), 0.0)


@pytest.mark.parametrize("lost", ["norm.weight", "blocks.0.attn.qkv.weight", None])
def test_the_hub_fills_everything_or_is_refused(lost: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights from the hub are as strictly compared as a file's: a missing final norm is no silent random start."""
    donor = make_donor().state_dict()
    given = {name: value for name, value in donor.items() if name != lost}
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *args, **settings: dict(given))
    if lost is None:
        assert_filled(create_backbone(NAME, "hub", 0.0), donor)
        return
    with pytest.raises(ArtifactError, match=f"the weights of test_vit do not fill it .*{lost}"):
        create_backbone(NAME, "hub", 0.0)


def test_the_source_of_the_weights_does_not_move_the_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether weights are random, the hub's or a file's, the head behind them starts from the same random numbers."""
    donor = make_donor().state_dict()
    save_file(donor, tmp_path / "w.safetensors")
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *args, **settings: dict(donor))
    heads = []
    for weights in ("none", "hub", str(tmp_path / "w.safetensors")):
        torch.manual_seed(3)
        heads.append(CarNet(NetworkConfig(backbone=NAME, weights=weights, drop_path_max=0.0), 3).head.state_dict())
    assert all(torch.equal(value, other[key]) for other in heads[1:] for key, value in heads[0].items())


def test_a_backbone_without_one_map_is_refused() -> None:
    """Two scales of tokens cannot be pooled as one: a ConfigError that names what can."""
    with pytest.raises(ConfigError, match=r"'coat_tiny' does not end in one map .* cannot be pooled; allowed: .*convnext"):
        CarNet(NetworkConfig(backbone="coat_tiny", weights="none", drop_path_max=0.0), 3)


def test_a_backbone_whose_pooling_cannot_be_switched_off_works() -> None:
    """efficientvit refuses a model without pooling; its map is taken before that."""
    network = CarNet(NetworkConfig(backbone="efficientvit_b0", weights="none", drop_path_max=0.0), 3)
    check_sizes(network, [64, 100])
    assert network.embed_dim == 128


def test_stages_that_fail_are_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """pool_stages 2 works where a backbone gives two maps; where looking at them fails, in whatever type, 1 is named."""
    config = NetworkConfig(backbone=NAME, weights="none", drop_path_max=0.0, pool_stages=2)
    assert CarNet(config, 3).embed_dim == 128

    def fail(*args: object, **settings: object) -> list[Tensor]:
        raise IndexError("no such stage")

    monkeypatch.setattr(type(timm.create_model(NAME)), "forward_intermediates", fail)
    with pytest.raises(ConfigError, match=r"network\.pool_stages is 2, but test_vit .* allowed here: 1 \(no such stage\)"):
        CarNet(config, 3)


def odd_sizes() -> Config:
    sizes = [SizePhase(epochs=1.0, size_px=size_px, batch_size=4, learning_rate=1e-3) for size_px in (32, 40)]
    return make_config(NAME, sizes=tuple(sizes))


def test_every_command_refuses_a_size_before_it_writes(tmp_path: Path) -> None:
    """A run, its plan's measurement and the check itself say the same: 40 px does not go, 32 and 48 do; no folder appears."""
    write_photos(tmp_path / "data")
    message = r"test_vit cannot take 40 px .*sizes that it takes: 32 and 48"
    with pytest.raises(ConfigError, match=message):
        check_network(odd_sizes())
    with pytest.raises(ConfigError, match=message):
        create_run(tmp_path / "run", tmp_path / "data", odd_sizes(), NoProgress())
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=message):
        measure_step_costs(odd_sizes(), CPU, 3, 1)


def test_the_audit_looks_at_the_nearest_size_that_its_backbone_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformer that cannot take the audit's 160 px embeds at a size beside it."""
    save_file(make_donor().state_dict(), tmp_path / "w.safetensors")
    for wanted, got in ((160, 160), (42, 48), (36, 32)):
        monkeypatch.setattr("hectocar.auditing.embedder.EMBED_PX", wanted)
        weights = str(tmp_path / "w.safetensors")
        embedder = build_embedder(run=None, weights=weights, backbone=NAME, device=CPU, max_megapixels=90.0)
        assert embedder is not None
        assert embedder.size_px == got


def test_a_backbone_that_ends_in_its_class_token_is_pooled_over_that() -> None:
    """pit gives its class token alone, and takes its own size only; the message names it."""
    network = CarNet(NetworkConfig(backbone="pit_ti_224", weights="none", drop_path_max=0.0, pool="avg"), 3).eval()
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(network.embed(images), network.backbone.forward_features(images)[:, 0])
    with pytest.raises(ConfigError, match=r"cannot take 100 px .*sizes that it takes: 224"):
        check_sizes(network, [224, 100])
