"""Every file of a run or bundle is bound to it by digest, and a step refuses inputs that are not those it was made from."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hectocar.dataset.decisions import Decision, write_decisions
from hectocar.dataset.folds import Folds
from hectocar.dataset.manifest import check_unchanged
from hectocar.dataset.provenance import join_parts
from hectocar.dataset.run_inputs import RUN_FILES, find_sources, outcome_tree, read_run
from hectocar.delivery.runs import join_runs
from hectocar.errors import ArtifactError
from project import Project, call, call_well
from tiny import change, make_config


@pytest.fixture
def copy(project: Project, tmp_path: Path) -> Iterator[Project]:
    """A project that may be damaged; its run still finds its photographs."""
    for name in ("data", "run", "audit", "ablation", "bundle"):
        shutil.copytree(project / name, tmp_path / name)
    for name in ("plan.yaml", "own_shift.json"):
        shutil.copy(project / name, tmp_path / name)
    return Project(tmp_path)


def swap(first: Path, second: Path) -> None:
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def list_commands(project: Project) -> dict[str, list[str]]:
    """The commands that take a run's weights."""
    run, out = str(project / "run"), str(project / "out")
    return {
        "predict": project.predict("run", project / "answer.csv"),
        "bundle": ["bundle", run, "--out", out],
        "finish": project.finish(project / "out"),
        "audit": ["audit", str(project / "data"), "--run", run, "--out", out, "--device", "cpu"],
    }


@pytest.mark.parametrize("name", ["predict", "bundle", "finish", "audit"])
@pytest.mark.parametrize("other", ["run/fold1", "ablation/base/seed1/fold0"])
def test_weights_of_another_fold_or_run_are_refused(name: str, other: str, copy: Project) -> None:
    """Of the same shapes or not: the header says what the weights were made from, and every command compares it."""
    swap(copy / "run" / "fold0" / "best.safetensors", copy.folder / other / "best.safetensors")
    code, _, message = call(list_commands(copy)[name])
    assert code == 2
    assert "fold0/best.safetensors: made from another configuration, other photographs or another fold" in message
    assert not (copy / "out").exists()


def test_weights_that_were_changed_are_refused(copy: Project) -> None:
    """One bit of a tensor, with the header as it was."""
    file = copy / "run" / "fold1" / "best.safetensors"
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    code, _, message = call(copy.predict("run", copy / "answer.csv"))
    assert code == 2
    assert "fold1/best.safetensors: " in message


@pytest.mark.parametrize("name", ["predict", "bundle", "finish", "audit"])
def test_folds_with_two_exchanged_are_refused(name: str, copy: Project) -> None:
    """What a network has seen would be taken for held out."""
    file = copy / "run" / "folds.parquet"
    table = pq.read_table(file)
    exchanged = [{0: 1, 1: 0}.get(fold, fold) for fold in table.column("fold").to_pylist()]
    Folds(tuple(table.column("image_id").to_pylist()), table.column("group").to_numpy(), np.array(exchanged)).save(file)
    code, _, message = call(list_commands(copy)[name])
    assert code == 2
    assert "run/folds.parquet: not the file that this run was made with (sha256 differs)" in message


@pytest.mark.parametrize("name", [*RUN_FILES, "shift.json", "provenance.json"])
def test_a_start_file_of_another_run_is_refused(name: str, copy: Project) -> None:
    """Each file of the folder belongs to it; the message names the one that does not."""
    shutil.copytree(copy / "data", copy / "data2")
    (copy / "data2" / "train" / "car 9").mkdir()
    for number in range(4):
        Image.new("RGB", (64, 48), (9, 60 * number, 40)).save(copy / "data2" / "train" / "car 9" / f"{number}.png")
    words = copy.train()
    words[1], words[words.index("--out") + 1] = str(copy / "data2"), str(copy / "run2")
    del words[words.index("--audit") : words.index("--audit") + 2]
    (copy / "other_shift.json").write_text((copy / "own_shift.json").read_text().replace("0.8", "0.7"))
    call_well([*words, "--set", f"data.shift={copy / 'other_shift.json'}", "--set", "inference.batch_size=32", "--fold", "0"])
    shutil.copy(copy / "run2" / name, copy / "run" / name)
    code, _, message = call(copy.predict("run", copy / "answer.csv"))
    assert code == 2
    assert "/run/" in message
    assert ".parquet: " in message or ".json: " in message


def test_a_shift_that_the_run_was_made_without_is_refused(copy: Project) -> None:
    """A file beside the others would switch the shifted validation on."""
    run = copy / "ablation" / "base" / "seed1"
    shutil.copy(copy / "own_shift.json", run / "shift.json")
    with pytest.raises(ArtifactError, match=r"shift\.json: the run was made without a shift; move the file away"):
        read_run(run)


def test_exchanged_banks_are_refused(copy: Project) -> None:
    """On the disk, and in bundle.json as well."""
    first, second = (copy / "bundle" / f"bank0_fold{fold}.safetensors" for fold in (0, 1))
    swap(first, second)
    code, _, message = call(copy.predict("bundle", copy / "answer.csv"))
    assert code == 2
    assert "bank0_fold0.safetensors: its bytes are not those that were bundled" in message
    swap(first, second)
    file = copy / "bundle" / "bundle.json"
    tree = json.loads(file.read_text())
    places = [{key: member[key] for key in ("bank", "bank_sha256")} for member in tree["members"]]
    for member, place in zip(tree["members"], reversed(places), strict=True):
        member.update(place)
    file.write_text(json.dumps(tree))
    code, _, message = call(copy.predict("bundle", copy / "answer.csv"))
    assert code == 2
    assert "bundle.json: its content was changed after it was written" in message


def damage(file: Path, how: str) -> None:
    if how == "deleted":
        file.unlink()
    else:
        file.write_bytes(b"")
        if how == "replaced":
            Image.new("RGB", (64, 48), (250, 250, 0)).save(file)


@pytest.mark.parametrize("how", ["replaced", "emptied", "deleted"])
@pytest.mark.parametrize("name", ["train --resume", "finish", "ablate", pytest.param("audit", marks=pytest.mark.slow)])
def test_a_photograph_that_changed_since_is_named(name: str, how: str, copy: Project) -> None:
    """No network is trained or judged on another picture than the one that was scanned."""
    damage(copy / "data" / "train" / "car 1" / "3.jpg", how)
    shutil.rmtree(copy / "run" / "oof")
    resume = [*copy.train(), "--set", f"data.shift={copy / 'own_shift.json'}", "--resume"]
    commands = {"train --resume": resume, "ablate": copy.ablate(), **list_commands(copy)}
    commands["finish"] += ["--data", str(copy / "data")]
    code, _, message = call(commands[name])
    assert code == 2
    assert "train/car 1/3.jpg" in message


def test_a_first_start_looks_at_the_photographs_again(copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is replaced between the scan and the first step is named, and not trained on."""
    from hectocar.training import run as module

    save_run = module.save_run

    def replace(run: object, device: object) -> None:
        save_run(run, device)  # type: ignore[arg-type]
        damage(copy / "data" / "train" / "car 2" / "0.jpg", "replaced")

    monkeypatch.setattr(module, "save_run", replace)
    words = copy.train()
    words[words.index("--out") + 1] = str(copy / "run2")
    code, _, message = call(words)
    assert code == 2
    assert "1 of 32 photographs are not those of the run: train/car 2/0.jpg (with other bytes)" in message


def test_moved_photographs_are_found_by_data(copy: Project) -> None:
    """The message says that --data names the new place, and so it is."""
    shutil.rmtree(copy / "run" / "oof")
    moved = copy / "moved"
    (copy / "data").rename(moved)
    code, _, message = call([*copy.finish(copy / "out"), "--data", str(copy / "data")])
    assert code == 2
    assert "photographs is not there; restore them, or name the folder where they lie now with --data DIR" in message
    check_unchanged(read_run(copy / "run").manifest.move(moved), 1, "")


@pytest.mark.slow
def test_finish_works_where_the_photographs_are_now(copy: Project) -> None:
    """--data of another folder with the same photographs ends in the same bundle."""
    shutil.rmtree(copy / "run" / "oof")
    (copy / "data").rename(copy / "moved")
    call_well([*copy.finish(copy / "out"), "--data", str(copy / "moved")])
    first, second = (json.loads((copy / name / "bundle.json").read_text()) for name in ("bundle", "out"))
    assert first == second


def test_an_ablation_goes_on_with_its_own_photographs_only(copy: Project) -> None:
    """`ablate PLAN DATA2 --out OLD`: with other pictures, or with one more, it is refused; a copy elsewhere is the same."""
    words = copy.ablate()
    shutil.copytree(copy / "data", copy / "data2")
    words[2] = str(copy / "data2")
    assert call(words)[0] == 0
    Image.new("RGB", (64, 48), (9, 90, 40)).save(copy / "data2" / "train" / "car 0" / "new.png")
    code, _, message = call(words)
    assert code == 2
    assert "1 photographs are new since the run was made: train/car 0/new.png" in message


def resume(project: Project, *words: str) -> tuple[int, str]:
    own = ["--set", f"data.shift={project / 'own_shift.json'}"]
    code, _, message = call([*project.train(), *own, *words, "--resume"])
    return code, message


def test_resuming_compares_bytes_and_not_paths(copy: Project) -> None:
    """--audit by another path to the same decisions goes on; other decisions are another configuration."""
    shutil.copytree(copy / "audit", copy / "audit #2")
    assert resume(copy, "--audit", str(copy / "audit #2"))[0] == 0
    write_decisions(copy / "audit #2" / "decisions.csv", [Decision("train/car 0/0.jpg", "unusable", "drop")])
    code, message = resume(copy, "--audit", str(copy / "audit #2"))
    assert code == 2
    assert "data.audit: 'sha256 " in message
    code, message = resume(copy, "--audit", str(copy / "gone"))
    assert code == 2
    assert "gone" in message


def test_runs_whose_folds_leak_are_not_joined(copy: Project) -> None:
    """Photographs of one group in one run, on both sides of a fold in the other; other folds of the same groups may join."""
    words = copy.train()
    words[words.index("--out") + 1] = str(copy / "other folds")
    own = ["--set", f"data.shift={copy / 'own_shift.json'}"]
    call_well([*words, *own, "--set", "data.fold_seed=3"])
    assert len(join_runs([read_run(copy / "run"), read_run(copy / "other folds")])) == 2
    shutil.copytree(copy / "audit", copy / "audit2")
    pair = [Decision(f"train/car 0/{number}.jpg", "near_duplicate", "group", group="g") for number in range(8)]
    write_decisions(copy / "audit2" / "decisions.csv", pair)
    words[words.index("--audit") + 1], words[words.index("--out") + 1] = str(copy / "audit2"), str(copy / "grouped")
    call_well([*words, *own])
    with pytest.raises(ArtifactError, match=r"run: its folds leak: train/car 0/\d\.jpg and train/car 0/\d\.jpg are of one"):
        join_runs([read_run(copy / "run"), read_run(copy / "grouped")])
    code, _, message = call(["finish", str(copy / "grouped"), str(copy / "run"), "--out", str(copy / "out"), "--device", "cpu"])
    assert code == 2
    assert "folds leak" in message


def test_the_parts_of_a_batch_belong_to_the_digest(project: Project) -> None:
    """BatchNorm sees the parts: weights of split batches have another digest, those of whole ones the run's own."""
    digest = read_run(project / "run").inputs_digest(0)
    assert join_parts(digest, {"32x8": 1}) == digest
    assert len({join_parts(digest, {"32x8": number}) for number in (1, 2, 3)}) == 3


def test_weights_by_another_path_are_the_same_weights(tmp_path: Path) -> None:
    """The bytes of a file that the configuration names decide, not where it lies; a missing one is named by its key."""

    def outcome(name: str) -> object:
        config = change(make_config(), "network", weights=str(tmp_path / name))
        return outcome_tree(config, find_sources(config))

    for name, content in (("a.safetensors", b"one"), ("b.safetensors", b"one"), ("c.safetensors", b"two")):
        (tmp_path / name).write_bytes(content)
    assert outcome("a.safetensors") == outcome("b.safetensors") != outcome("c.safetensors")
    with pytest.raises(ArtifactError, match=r"network\.weights: .*d\.safetensors does not exist"):
        outcome("d.safetensors")
