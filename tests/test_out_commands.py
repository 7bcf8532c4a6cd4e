"""--out as a user meets it, for every command: what is refused is refused before the work, with nothing changed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hectocar.cli import main
from hectocar.delivery import stream
from hectocar.delivery.prediction import ProbabilityTable
from hectocar.delivery.predictor import Classifier
from hectocar.disk.locks import hold_lock
from hectocar.disk.outputs import identify
from hectocar.disk.writing import name_beside
from hectocar.errors import ArtifactError
from hectocar.showroom import ShowroomSpec, write_showroom

TINY = [
    "--preset", "demo", "--set", "network.backbone=test_efficientnet", "--set", "training.epochs=1",
    "--set", "training.sizes=[{epochs: 1, size_px: 32, batch_size: 8, learning_rate: 1e-3}]",
    "--set", "data.num_folds=2",
]  # fmt: skip
PLAN = """
title: Two
base: {data: {num_folds: 2}, network: {backbone: test_efficientnet, weights: none}}
seeds: [1]
variants: {a: {}, b: {network: {neck: none}}}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A showroom, a run, a bundle of it, a submission and a plan."""
    folder = tmp_path_factory.mktemp("base")
    spec = ShowroomSpec(num_classes=4, train_per_class=6, test_per_class=2, num_faults=0, long_edge_px=96)
    write_showroom(folder / "data", spec)
    (folder / "plan.yaml").write_text(PLAN)
    assert main(["train", str(folder / "data"), *TINY, "--out", str(folder / "run")]) == 0
    assert main(["bundle", str(folder / "run"), "--out", str(folder / "bundle")]) == 0
    assert main(["predict", str(folder / "run"), str(folder / "data/test.csv"), "--out", str(folder / "submission.csv")]) == 0
    return folder


def words_for(command: str, base: Path, out: Path) -> list[str]:
    """The command as it is typed."""
    data, run = str(base / "data"), str(base / "run")
    words = {
        "audit": ["audit", data],
        "train": ["train", data, *TINY],
        "bundle": ["bundle", run],
        "finish": ["finish", run, "--views", "plain"],
        "ablate": ["ablate", str(base / "plan.yaml"), data],
        "score": ["score", str(base / "submission.csv"), str(base / "data/truth/answers.csv")],
        "bench": ["bench", "scan", "--photos", data],
        "demo": ["demo"],
        "predict": ["predict", run, str(base / "data/test.csv")],
        "folds": ["folds", data],
        "preview": ["preview", data, *TINY],
    }
    return ["showroom", str(out), "--classes", "4"] if command == "showroom" else [*words[command], "--out", str(out)]


FOLDER_COMMANDS = ("audit", "train", "bundle", "finish", "ablate", "score", "bench", "demo", "showroom")
FILE_COMMANDS = ("predict", "folds", "preview")


def read_tree(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder: contents of files, targets of links."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else ""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def places(base: Path, tmp_path: Path) -> Path:
    """All that may lie where --out points and is the user's."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    (tmp_path / "mine" / "run").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link.csv").symlink_to(tmp_path / "file")
    return tmp_path


@pytest.mark.parametrize("command", FOLDER_COMMANDS)
def test_a_folder_that_is_not_ours_is_refused_by_every_command(
    command: str, base: Path, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file, a folder of the user's, a link, a place under a file, a name too long: exit code 2, one message, no change."""
    before = read_tree(places)
    for out, words in (
        ("mine", "exists and is not"), ("file", "is a file"), ("link", "symbolic link"), ("dangling", "symbolic link"),
        ("file/below", "file is no folder"), ("n" * 300, "name is too long"),
    ):  # fmt: skip
        assert main(words_for(command, base, places / out)) == 2, out
        assert words in capsys.readouterr().err
    assert read_tree(places) == before


@pytest.mark.parametrize("command", FOLDER_COMMANDS)
def test_another_artefact_is_refused_by_every_command(command: str, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run is never replaced by an audit, nor a bundle by a run; without --resume a run is not even gone on with."""
    before = read_tree(base)
    for out in ("run", "bundle", "data"):
        if (command, out) == ("bundle", "bundle"):
            continue  # the very bundle that would be made: it may stand
        assert main(words_for(command, base, base / out)) == 2, out
        assert "--out" in capsys.readouterr().err
    assert read_tree(base) == before


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("command", FILE_COMMANDS)
def test_links_folders_and_inputs_are_never_written(
    command: str, overwrite: list[str], base: Path, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither through a link nor over what is read, whether --overwrite is given or not."""
    before, own = read_tree(places), read_tree(base)
    outs = [places / "link.csv", places / "dangling", places / "empty", places / "file" / "x.csv", places / ("n" * 300)]
    outs += [base / "data/train", base / "data/train/x.csv"] if command != "predict" else []
    if command == "predict":
        outs += [base / "data/test.csv", base / "data/sample_submission.csv", next((base / "data/test").iterdir())]
        outs += [base / "run/config.json", base / "run/new.csv"]
    for out in outs:
        assert main([*words_for(command, base, out), *overwrite]) == 2, out
        said = capsys.readouterr().err
        assert str(out)[:40] in said
        assert said.count("hectocar: ") == 1
    assert read_tree(places) == before
    assert read_tree(base) == own


@pytest.mark.parametrize("command", FILE_COMMANDS)
def test_a_users_file_is_kept_and_our_own_replaced(
    command: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before the work; --overwrite replaces it; from then on it is ours, until somebody edits it."""
    out = tmp_path / "out.csv"
    out.write_text("my answers")
    words = words_for(command, base, out)
    assert main(words) == 2
    assert "--overwrite to lose it" in capsys.readouterr().err
    assert out.read_text() == "my answers"
    assert main([*words, "--overwrite"]) == 0
    written = out.read_bytes()
    assert main(words) == 0
    assert out.read_bytes() == written
    out.write_bytes(written + b"edited")
    assert main(words) == 2
    assert out.read_bytes() == written + b"edited"
    assert sorted(os.listdir(tmp_path)) == [".out.csv.hectocar", "out.csv"]  # noqa: PTH208


def test_a_demo_never_clears_what_a_user_made(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run, a bundle and a submission of the names that a demo uses: refused, and every byte of them stays."""
    work = tmp_path / "w"
    for name in ("run", "bundle"):
        shutil.copytree(base / name, work / name)
    shutil.copy(base / "submission.csv", work)
    before = read_tree(work)
    assert main(["demo", "--out", str(work)]) == 2
    assert "exists and is not a demo" in capsys.readouterr().err
    assert read_tree(work) == before


def test_a_second_writer_is_told_so(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says who writes there already, and does nothing."""
    for command in (*FOLDER_COMMANDS, *FILE_COMMANDS):
        out = tmp_path / command
        with hold_lock(out):
            assert main(words_for(command, base, out)) == 2, command
        assert "is writing it already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_stands_is_made_only_once(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same call again, as after a kill in the last moment, ends well; a bundle of other networks is not replaced."""
    words = words_for("bundle", base, tmp_path / "b")
    assert main(words) == 0
    before = read_tree(tmp_path)
    assert main(words) == 0
    assert read_tree(tmp_path) == before
    assert main(words_for("finish", base, tmp_path / "b")) == 2
    assert "a bundle of other networks or views exists already" in capsys.readouterr().err
    assert read_tree(tmp_path) == before


def test_parts_of_another_model_are_never_taken(base: Path, tmp_path: Path) -> None:
    """Each part says what it was made from: one of another model in the same folder is made again."""
    table = ProbabilityTable(np.full((2, 3), 1 / 3), {1: "why"})
    stream._save_part(tmp_path / "000000.npz", "one", table)
    found = stream._load_part(tmp_path / "000000.npz", "one", 2, 3)
    assert found is not None
    assert found.problems == {1: "why"}
    assert stream._load_part(tmp_path / "000000.npz", "other", 2, 3) is None


def test_parts_of_an_answer_are_cleared_and_nothing_else(base: Path, tmp_path: Path) -> None:
    """What a person keeps in that folder stays; a kill while it is cleared leaves a folder that is still known."""
    folder = stream.parts_folder(tmp_path / "s.csv")
    stream._open_folder(folder, "digest")
    stream._save_part(folder / "000000.npz", "digest", ProbabilityTable(np.ones((1, 1)), {}))
    (folder / "mine.txt").write_text("mine")
    stream.remove_parts(folder)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    for digest in ("digest", "other"):
        with pytest.raises(ArtifactError, match="is none of ours"):
            stream._open_folder(folder, digest)
    stream.remove_parts(folder)
    assert (folder / "mine.txt").read_text() == "mine"
    longest = tmp_path / ("n" * 251 + ".csv")
    stream._open_folder(stream.parts_folder(longest), "digest")
    assert stream.parts_folder(longest) == name_beside(longest, ".parts")


def test_a_changed_answer_is_not_replaced_at_the_end(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that appears at --out while photographs are predicted is the user's."""
    predict = Classifier.predict_proba

    def meanwhile(self: Classifier, *args: object, **settings: object) -> ProbabilityTable:
        (tmp_path / "s.csv").write_text("mine")
        return predict(self, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Classifier, "predict_proba", meanwhile)
    assert main(words_for("predict", base, tmp_path / "s.csv")) == 2
    assert "is not a submission as hectocar wrote it" in capsys.readouterr().err
    assert (tmp_path / "s.csv").read_text() == "mine"


@contextmanager
def limited_files(num_bytes: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: what a full disk is to a test."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


LIMITS = {"train": 20_000, "bundle": 50_000, "finish": 50_000, "folds": 300, "predict": 300, "preview": 3_000, "score": 6_000}


@pytest.mark.parametrize("command", ["audit", "showroom", *LIMITS])
def test_no_room_is_one_message(command: str, base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every command says what could not be written and how much it needs; nothing half written stands, and it can be called
    again where there is room."""
    out = tmp_path / "out"
    if command in ("finish", "predict"):
        shutil.copytree(base / "run", tmp_path / "run")
    with limited_files(LIMITS.get(command, 1_500)):
        code = main([word.replace(str(base / "run"), str(tmp_path / "run")) if command == "finish" else word
                     for word in words_for(command, base, out)])  # fmt: skip
    said = capfd.readouterr().err
    assert code == 2, said
    assert "Traceback" not in said
    assert "ulimit -f" in said, said
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".part", ".lock"))]
    if command == "train":
        assert "the checkpoints of 1 fold need a file of" in said
        assert identify(out) in ("", "run")
    else:
        assert not out.exists()
