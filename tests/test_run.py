"""Laws of a run folder: it is never overwritten, and goes on only with the configuration and photographs it began with."""

import re
import shutil
from pathlib import Path

import pytest

from hectocar.config.schema import Config
from hectocar.dataset.run_inputs import Run, read_provenance, read_run
from hectocar.disk import writing
from hectocar.disk.locks import hold_lock
from hectocar.errors import ArtifactError, ConfigError, HectocarError, WriteError
from hectocar.network.weights import load_tensors_with_state
from hectocar.progress import NoProgress
from hectocar.training.memory import describe_device
from hectocar.training.run import create_run, resume_run, start_run, train_folds
from tiny import CPU, change, make_config, write_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Run:
    return create_run(tmp_path / "run", photos, make_config(epochs=1), NoProgress())


def train_all(run: Run, folds: tuple[int, ...] = (0,)) -> dict[int, dict[str, object]]:
    return train_folds(run, folds, CPU, NoProgress())


def test_provenance_names_the_device(run: Run) -> None:
    """With what its speed and last bits depend on: instructions and threads of a processor, CUDA and cuDNN of a GPU."""
    environment = read_provenance(run.folder).environment
    assert environment.items() >= describe_device(CPU).items()
    assert {"device", "torch", "timm"} <= environment.keys()


def test_an_existing_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    """--out never writes into a folder that has content, nor over a file or through a link; an empty folder is fine."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for resume in (False, True):
        for name, words in (("full", "is not a run .*thesis"), ("file", "is a file"), ("link", "symbolic link")):
            with pytest.raises(ArtifactError, match=words):
                start_run(tmp_path / name, photos, make_config(), NoProgress(), resume=resume)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert create_run(tmp_path / "empty", photos, make_config(), NoProgress()).folder == tmp_path / "empty"


def test_a_whole_run_is_gone_on_with_on_request_only(run: Run, photos: Path) -> None:
    """Without --resume the message has that word; with it, and nothing there yet, the run is made."""
    with pytest.raises(ArtifactError, match="holds a run already; add --resume to go on with it, or give another folder"):
        start_run(run.folder, photos, run.config, NoProgress(), resume=False)
    assert start_run(run.folder, photos, run.config, NoProgress(), resume=True).classes == run.classes
    made = start_run(run.folder.with_name("new"), photos, run.config, NoProgress(), resume=True)
    assert read_run(made.folder).config == run.config


START_FILES = ["manifest.parquet", "folds.parquet", "classes.json", "provenance.json"]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("count", range(5))
def test_half_a_run_is_begun_anew(count: int, resume: bool, run: Run, photos: Path) -> None:
    """A kill before config.json, as earlier versions left it, temporary files and all: the same command goes on."""
    for name in [*START_FILES[count:], "config.json"]:
        (run.folder / name).unlink()
    (run.folder / ".folds.parquet.x1y2z3.part").write_text("half")
    started = start_run(run.folder, photos, run.config, NoProgress(), resume=resume)
    assert read_run(started.folder).config == run.config
    assert sorted(path.name for path in run.folder.iterdir() if path.suffix != ".part") == sorted([*START_FILES, "config.json"])


@pytest.mark.parametrize("foreign", ["notes.txt", "fold0"])
def test_a_folder_with_more_than_half_a_run_is_not_touched(foreign: str, run: Run, photos: Path) -> None:
    """Where something else lies beside the start files, or they are not what their names say, it is not ours to clear."""
    (run.folder / "config.json").unlink()
    (run.folder / foreign).mkdir()
    before = sorted(path.name for path in run.folder.iterdir())
    for resume in (False, True):
        with pytest.raises(ArtifactError, match="exists and is not a run"):
            start_run(run.folder, photos, run.config, NoProgress(), resume=resume)
    assert sorted(path.name for path in run.folder.iterdir()) == before
    (run.folder / foreign).rmdir()
    (run.folder / "classes.json").write_text("my own notes")
    with pytest.raises(ArtifactError, match="exists and is not a run"):
        start_run(run.folder, photos, run.config, NoProgress(), resume=False)
    assert (run.folder / "classes.json").read_text() == "my own notes"


@pytest.mark.parametrize("name", ["manifest.parquet", "provenance.json", "config.json"])
def test_a_cut_while_a_run_is_made_leaves_none(
    name: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder appears whole: an interruption at any of its files leaves nothing under its name, and no litter."""
    flush = writing._flush

    def cut(path: Path) -> None:
        if path.name.startswith(f".{name}."):
            raise KeyboardInterrupt
        flush(path)

    monkeypatch.setattr(writing, "_flush", cut)
    with pytest.raises(KeyboardInterrupt):
        create_run(tmp_path / "run", photos, make_config(), NoProgress())
    assert list(tmp_path.iterdir()) == []


def test_a_fold_has_one_trainer(run: Run, photos: Path) -> None:
    """Who trains a fold that another process trains is told so; another fold of the same run is free."""
    with hold_lock(run.fold_folder(0)):
        with pytest.raises(ArtifactError, match="fold0: this very process is writing it"):
            train_all(run)
        train_all(run, (1,))
    train_all(run)
    assert not [path for path in run.folder.rglob("*") if path.name.endswith((".lock", ".part"))]


def test_a_training_that_cannot_be_kept_is_not_begun(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoints' size is known from the network: too little room is said before the first step, and nothing is made."""
    usage = shutil.disk_usage(run.folder)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=5_000_000))
    with pytest.raises(
        WriteError, match=r"run: the checkpoints of 4 folds need \d+\.\d MB, and 5\.0 MB are free there; make room"
    ):
        train_all(run, (0, 1, 2, 3))
    assert not run.fold_folder(0).exists()
    train_all(run, (0,))
    size = sum((run.fold_folder(0) / name).stat().st_size for name in ("last.safetensors", "best.safetensors"))
    seen: list[int] = []
    monkeypatch.setattr("hectocar.training.room.check_room", lambda _, num_bytes, *__, **___: seen.append(num_bytes))
    train_all(run, (1,))
    last = (run.fold_folder(0) / "last.safetensors").stat().st_size
    assert size + last == pytest.approx(seen[0], rel=0.05), "what was foretold is what is written"


def test_a_run_opens_as_it_was_made(run: Run) -> None:
    """What was written is what is read: configuration, photographs, classes, split, and so the digest of every fold."""
    opened = read_run(run.folder)
    assert (opened.config, opened.classes) == (run.config, run.classes)
    assert [opened.inputs_digest(fold) for fold in range(4)] == [run.inputs_digest(fold) for fold in range(4)]
    assert len({run.inputs_digest(fold) for fold in range(4)}) == 4


def test_a_run_with_default_phases_keeps_its_digest(photos: Path, tmp_path: Path) -> None:
    """Equal configurations have equal digests, however their numbers are spelled: 1 in a default, 1.0 from a file."""
    run = create_run(tmp_path / "run", photos, Config(network=make_config().network), NoProgress())
    opened = read_run(run.folder)
    assert opened.config == run.config
    assert opened.inputs_digest(0) == run.inputs_digest(0)


def test_folds_train_and_are_not_trained_again(run: Run, photos: Path) -> None:
    """Each fold gets its own checkpoint; asking again, or resuming, returns the same results without training."""
    results = train_all(run, (0, 3))
    written = {fold: (run.fold_folder(fold) / "best.safetensors").stat().st_mtime_ns for fold in (0, 3)}
    assert train_all(resume_run(run.folder, photos, run.config), (0, 3)) == results
    assert {fold: (run.fold_folder(fold) / "best.safetensors").stat().st_mtime_ns for fold in (0, 3)} == written
    for fold in (0, 3):
        state = load_tensors_with_state(run.fold_folder(fold) / "best.safetensors")[1]
        assert state["inputs_digest"] == run.inputs_digest(fold)


@pytest.mark.parametrize("fold", [-1, 4])
def test_a_fold_that_does_not_exist_is_refused(fold: int, run: Run) -> None:
    """The error states the allowed range."""
    with pytest.raises(ConfigError, match=rf"--fold is {fold}; allowed: 0 to 3, or all"):
        train_all(run, (0, fold))
    assert not run.fold_folder(0).exists(), "checked before anything is trained"


def test_another_configuration_is_refused_by_name(run: Run, photos: Path) -> None:
    """--resume names every difference with both values, and nothing that is equal."""
    other = change(change(run.config, "training", seed=7, label_smoothing=0.2), "network", gem_p=4.0)
    with pytest.raises(ConfigError, match="another configuration") as caught:
        resume_run(run.folder, photos, other)
    named = re.findall(r"^  (.* then, .* now)$", str(caught.value), flags=re.MULTILINE)
    assert sorted(named) == [
        "network.gem_p: 3.0 then, 4.0 now",
        "training.label_smoothing: 0.05 then, 0.2 now",
        "training.seed: 2025 then, 7 now",
    ]


def make_harmless_change(config: Config) -> Config:
    return change(change(config, "training", checkpoint_minutes=0.5), "data", num_workers=3)


def test_settings_without_influence_may_change(run: Run, photos: Path) -> None:
    """Workers and the time between checkpoints change no result, so a run goes on under others."""
    train_all(run)
    resumed = resume_run(run.folder, photos, make_harmless_change(run.config))
    assert resumed.config.data.num_workers == 3
    assert resumed.inputs_digest(0) == run.inputs_digest(0)
    train_all(resumed)


def test_photographs_may_move(run: Run, photos: Path, tmp_path: Path) -> None:
    """The same photographs in another folder are the same photographs: the run goes on with them there."""
    shutil.copytree(photos, tmp_path / "moved")
    resumed = resume_run(run.folder, tmp_path / "moved", run.config)
    assert all(file.is_relative_to(tmp_path / "moved") for file in resumed.manifest.files())
    train_all(resumed)


def test_a_checkpoint_of_other_photographs_is_refused(run: Run, tmp_path: Path) -> None:
    """A checkpoint that was copied from a run over other photographs is an ArtifactError."""
    write_photos(tmp_path / "others", seed=1)
    others = create_run(tmp_path / "other run", tmp_path / "others", run.config, NoProgress())
    train_all(others)
    shutil.copytree(others.fold_folder(0), run.fold_folder(0))
    with pytest.raises(ArtifactError, match=r"last\.safetensors: made from another configuration or other photographs"):
        train_all(run)


def test_a_checkpoint_of_another_fold_is_refused(run: Run) -> None:
    """Folds hold out different photographs, so their checkpoints are not exchanged."""
    train_all(run, (1,))
    run.fold_folder(1).rename(run.fold_folder(2))
    with pytest.raises(ArtifactError, match="made from another configuration"):
        train_all(run, (2,))


def test_resuming_with_other_photographs_is_refused(run: Run, tmp_path: Path) -> None:
    """Photographs of the same names with other bytes are other photographs: --resume refuses them."""
    write_photos(tmp_path / "others", seed=1)
    with pytest.raises(HectocarError):
        train_all(resume_run(run.folder, tmp_path / "others", run.config))


@pytest.mark.parametrize("name", ["config.json", "classes.json", "manifest.parquet", "folds.parquet"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_run_is_refused(name: str, damage: str, run: Run) -> None:
    """Each file of a run is needed whole; the error names the run or the file."""
    file = run.folder / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ArtifactError, match=re.escape(str(run.folder))):
        read_run(run.folder)
