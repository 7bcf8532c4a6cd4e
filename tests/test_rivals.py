"""Laws of benchmarks/rivals.py: the same photographs for everybody, answers read back by name, nothing that flatters ours.

No rival is installed here: one that only knows arrays stands for them.
"""

import csv
import json
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from hectocar.cli import main
from hectocar.dataset.run_inputs import Run, read_run
from hectocar.errors import ArtifactError, ConfigError
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.photos.shift import apply_shift
from hectocar.scoring.arrays import log_softmax
from hectocar.showroom import ShowroomSpec, write_showroom

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SHIFT = {"gain": 1.0, "offset": -40.0, "gamma": 1.0, "jpeg_quality": 90}
FAKE = """
import csv, json, sys
from pathlib import Path
import numpy as np
path = Path(sys.argv[1]); job = json.loads(path.read_text()); out = path.parent
with open(out.parent / "calls.txt", "a") as calls: calls.write(out.name + "\\n")
if job["settings"].get("fails"): sys.exit("no such layer")
parts, G, rng = {}, job["num_classes"], np.random.default_rng(0)
for row in csv.DictReader(open(Path(job["split"]) / "photos.csv")): parts.setdefault(row["part"], []).append(row)
arrays = {}
for part, rows in parts.items():
    assert all((Path(job["split"]) / row["file"]).is_file() for row in rows)
    arrays[part + "_file"] = np.array([row["file"] for row in rows])
    right = np.eye(G)[[int(row["label"]) for row in rows]] * job["settings"]["skill"]
    arrays[part + "_embeddings"] = (right + rng.normal(size=right.shape)).astype(np.float16)
    for view in ("plain", "mirror"):
        logits = right + rng.normal(size=right.shape)
        arrays[part + "_" + view] = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
np.savez(out / "answers.npz", **arrays)
(out / "usage.json").write_text(json.dumps({"minutes": 0.5, "cpu_minutes": 1.0, "epochs": job["epochs"]}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three classes, one of them with two names; one fold of two, trained for an epoch, and a shift."""
    folder = tmp_path_factory.mktemp("rivals")
    data, shift = folder / "showroom", folder / "shift.json"
    write_showroom(data, ShowroomSpec(num_classes=4, train_per_class=10, test_per_class=2, num_faults=1, long_edge_px=64))
    shift.write_text(json.dumps(SHIFT))
    sets = ["network.backbone=test_efficientnet", "training.epochs=1", "training.warmup_epochs=0", "data.num_folds=2"]
    sets += ["training.sizes=[{epochs: 1, size_px: 32, batch_size: 8, learning_rate: 1e-3}]", f"data.shift={shift}"]
    words = [word for text in sets for word in ("--set", text)]
    out = folder / "run"
    assert main(["train", str(data), "--preset", "demo", *words, "--fold", "0", "--out", str(out), "--device", "cpu"]) == 0
    return read_run(out)


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import rivals

    return rivals  # type: ignore[no-any-return]


def test_split_is_that_of_the_fold(run: Run, rivals: ModuleType, tmp_path: Path) -> None:
    """Links lead to the fold's own photographs under their trained class, and PNG copies are those that our shift makes."""
    split = rivals.lay_out(run, 0, tmp_path / "split", [(int(run.folds.split(0)[1][0]), "dark")])
    labels, files = run.manifest.labels(run.classes), run.manifest.files()
    with (split.folder / "photos.csv").open(newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    for part, rows in zip(("train", "validation"), run.folds.split(0), strict=True):
        links = sorted((split.folder / part).rglob("*.*"))
        assert {link.resolve() for link in links} == {files[row].resolve() for row in rows}
        assert sorted((link.parent.name, link.stem) for link in links) == sorted(
            (f"{labels[row]:04d}", f"{row:06d}") for row in rows
        )
        assert [row["image_id"] for row in listed if row["part"] == part] == [run.manifest.image_id[row] for row in rows]
    assert run.shift is not None
    for row in split.held_N[:3]:
        expected = apply_shift(decode_photo(read_photo_bytes(files[row])), run.shift)
        assert np.array_equal(np.asarray(Image.open(split.folder / "shifted" / f"{row:06d}.png")), np.asarray(expected))
    assert len(split.files["unusable"]) == 1
    before = (split.folder / "photos.csv").stat().st_mtime_ns
    rivals.lay_out(run, 0, tmp_path / "split", [(int(run.folds.split(0)[1][0]), "dark")])
    assert (split.folder / "photos.csv").stat().st_mtime_ns == before
    with pytest.raises(ArtifactError, match="split of something else"):
        rivals.lay_out(run, 0, tmp_path / "split")
    with pytest.raises(ConfigError, match="allowed: 0 to 1"):
        rivals.lay_out(run, 2, tmp_path / "other")


def test_small_form_keeps_the_first_classes(run: Run, rivals: ModuleType, tmp_path: Path) -> None:
    split = rivals.lay_out(run, 0, tmp_path / "split", limit_classes=2)
    assert split.num_classes == 2
    assert sorted(folder.name for folder in (split.folder / "train").iterdir()) == ["0000", "0001"]


@pytest.mark.parametrize("fault", ["pickle", "order", "shape", "nan", "text"])
def test_answers_are_checked(run: Run, rivals: ModuleType, tmp_path: Path, fault: str) -> None:
    """What a rival wrote runs no code, and is about the photographs asked for, in their order."""
    split = rivals.lay_out(run, 0, tmp_path / "split")
    arrays: dict[str, np.ndarray] = {f"{part}_file": np.array(names) for part, names in split.files.items()}
    for part in split.parts:
        for view in ("plain", "mirror"):
            arrays[f"{part}_{view}"] = np.full((len(split.held_N), split.num_classes), -1.0, dtype=np.float32)
    file = tmp_path / "answers.npz"
    np.savez(file, **arrays)
    assert rivals.said.read_answers(file, split).raw().keys() == {"clean", "shifted"}
    if fault == "pickle":
        arrays["validation_plain"] = np.array([{"a": 1}], dtype=object)
    elif fault == "order":
        arrays["shifted_file"] = arrays["shifted_file"][::-1]
    elif fault == "shape":
        arrays["validation_mirror"] = arrays["validation_mirror"][:, 1:]
    elif fault == "nan":
        arrays["validation_mirror"][0, 0] = np.nan
    np.savez(file, **arrays)
    if fault == "text":
        file.write_text("no arrays")
    with pytest.raises(ArtifactError, match=r"answers\.npz"):
        rivals.said.read_answers(file, split)


def test_temperature_is_nested(rivals: ModuleType) -> None:
    """A part's labels do not move its own answers, and logits that are three times too large are mended."""
    rng, label_N, part_N = np.random.default_rng(0), np.arange(200) % 5, np.arange(200) % 4
    honest = np.eye(5)[label_N] * 2.0 + rng.gumbel(size=(200, 5))
    tables = {"clean": log_softmax(3.0 * honest), "shifted": log_softmax(3.0 * honest)}
    mended = rivals.said.nested_temperature(tables, label_N, part_N)
    wrong_N = np.where(part_N == 0, (label_N + 1) % 5, label_N)
    other = rivals.said.nested_temperature(tables, wrong_N, part_N)
    assert np.array_equal(mended["clean"][part_N == 0], other["clean"][part_N == 0])
    assert not np.array_equal(mended["clean"][part_N == 1], other["clean"][part_N == 1])
    loss = [-table["clean"][np.arange(200), label_N].mean() for table in (tables, mended)]
    assert loss[1] < loss[0]


def test_table_says_who_is_better(rivals: ModuleType) -> None:
    """Each level against ours of the same level; a temperature alone against our finish, too; below 0 ours is better."""
    label_N = np.arange(40) % 4
    good, bad = ({"clean": log_softmax(scale * np.eye(4)[label_N])} for scale in (4.0, 1.0))
    entries = [rivals.Entry(rivals.OURS, level, good) for level in ("raw", "temperature", "finish")]
    entries += [rivals.Entry("peer", level, bad, cost={"minutes": 2.0}) for level in ("raw", "temperature", "finish")]
    header, *rows = rivals.build_rows(entries, label_N)
    lines = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(line["against ours"], line["program"], line["level"]) for line in lines] == [
        ("raw", "hectocar", "raw"),
        ("raw", "peer", "raw"),
        ("temperature", "hectocar", "temperature"),
        ("temperature", "peer", "temperature"),
        ("finish", "hectocar", "finish"),
        ("finish", "peer", "temperature"),
        ("finish", "peer", "finish"),
    ]
    losses = [-table["clean"][0, 0] for table in (good, bad)]
    assert lines[1]["clean difference"] == f"{losses[0] - losses[1]:+.4f} ± 0.0000"
    assert lines[1]["clean ratio"] == f"{losses[0] / losses[1]:.3f}"
    assert (lines[0]["clean difference"], lines[0]["minutes"], lines[1]["minutes"]) == ("-", "-", "2.0")


def test_from_run_to_table(
    run: Run, rivals: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best setting counts, a rival that fails is named, and what has run does not run again."""
    runner, weights, out = tmp_path / "fake.py", tmp_path / "w.safetensors", tmp_path / "out"
    runner.write_text(FAKE)
    weights.write_bytes(b"")
    settings = {"weak": {"skill": 0.5}, "strong": {"skill": 3.0}}
    rows = {"fake": rivals.Rival(str(runner), (), settings), "broken": rivals.Rival(str(runner), (), {"one": {"fails": True}})}
    monkeypatch.setattr(rivals, "RIVALS", rows)
    call = ["rivals.py", str(run.folder), "--weights", str(weights), "--envs", str(tmp_path / "envs"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*call, "--epochs", "2"])
    assert rivals.main() == 0, capsys.readouterr()
    with (out / "table.csv").open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    assert [line["program"] for line in lines] == ["hectocar", "fake"] * 2 + ["hectocar", "fake", "fake"]
    assert {line["setting"] for line in lines if line["program"] == "fake"} == {"strong"}
    assert "broken is missing: one_2: ended with 1: no such layer" in (out / "table.md").read_text(encoding="utf-8")
    with (out / "losses.csv").open(newline="", encoding="utf-8-sig") as file:
        losses = list(csv.DictReader(file))
    shifted = [float(row["fake temperature"]) for row in losses if row["condition"] == "shifted"]
    assert f"{np.mean(shifted):.4f}" == lines[3]["shifted log loss"]
    assert len(shifted) == len(run.folds.split(0)[1])
    calls = (out / "fake" / "calls.txt").read_text()
    assert calls.split() == ["weak_2", "strong_2"]
    assert rivals.main() == 0
    assert (out / "fake" / "calls.txt").read_text() == calls
    monkeypatch.setattr(sys, "argv", [*call, "--epochs", "2", "--size", "64", "--rivals", "fake"])
    assert rivals.main() == 2
    assert "another job was run there" in capsys.readouterr().err


def test_a_missing_script_is_named(
    run: Run, rivals: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["rivals.py", str(run.folder), "--weights", "w", "--envs", "e", "--out", str(tmp_path / "out"), "--rivals", "timm"]
    monkeypatch.setattr(sys, "argv", call)
    assert rivals.main() == 2
    assert "--rivals timm needs --timm-script FILE" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("counts", [(3, 1, 7), (24, 25, 26, 5)])
def test_the_expert_file_is_made_to_hold_out_ours(
    counts: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own draw, as its source has it, leaves exactly the photographs that ours trains on."""
    monkeypatch.syspath_prepend(str(BENCHMARKS / "rival_runners"))
    import expert_file
    from common import Job

    split, rows = tmp_path / "split", []
    for label, count in enumerate(counts):
        for part, number in (("train", count), ("validation", 2)):
            for place in range(number):
                name = f"{part}/{label:04d}/{place:06d}.jpg"
                (split / name).parent.mkdir(parents=True, exist_ok=True)
                (split / name).write_bytes(b"")
                rows.append((part, name, label))
    with (split / "photos.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("part", "file", "label"), *rows])
    job = Job(tmp_path, split, split, "none", len(counts), 32, 1, 8, 1, False, "", {})
    wanted = expert_file.lay_out(job, tmp_path / "data")
    items = [
        (file, label)
        for label, folder in enumerate(sorted((tmp_path / "data" / "train").iterdir()))
        for file in sorted(folder.iterdir())
    ]
    random.seed(1)
    random.shuffle(items)
    by: dict[int, list[Path]] = {}
    for file, label in items:
        by.setdefault(label, []).append(file)
    valid = [file for files in by.values() for file in files[: max(1, round(0.15 * len(files)))]]
    train = [file for files in by.values() for file in files[max(1, round(0.15 * len(files))) :]]
    assert sorted(file.resolve() for file in train) == sorted(wanted)
    assert len(wanted) == sum(counts)
    assert {file.resolve().parents[1].name for file in valid} == {"validation"}
