"""Every command on a showroom of a few photographs, as a user types it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hectocar import ArtifactError, Classifier, DataError
from hectocar.cli import main
from hectocar.delivery.bundle import read_model
from hectocar.scoring.submission import read_sample, read_submission
from hectocar.showroom import ShowroomSpec, write_showroom

TINY = [
    "--preset", "demo", "--set", "network.backbone=test_efficientnet", "--set", "training.epochs=1",
    "--set", "training.sizes=[{epochs: 1, size_px: 48, batch_size: 8, learning_rate: 1e-3}]",
    "--set", "training.warmup_epochs=0", "--set", "data.num_folds=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def showroom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the contest's layout, with faults planted."""
    folder = tmp_path_factory.mktemp("data") / "showroom"
    write_showroom(folder, ShowroomSpec(num_classes=4, train_per_class=6, test_per_class=2, num_faults=1, long_edge_px=96))
    return folder


@pytest.fixture(scope="module")
def run(showroom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds trained for one epoch."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(showroom), *TINY, "--fold", "all", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of that run."""
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    assert main(["bundle", str(run), "--out", str(folder)]) == 0
    return folder


def test_train_leaves_the_artefacts_that_the_next_steps_read(run: Path) -> None:
    """A run holds its configuration, tables, provenance and per fold the best weights and the events."""
    names = {"config.json", "classes.json", "manifest.parquet", "folds.parquet", "provenance.json", "fold0", "fold1"}
    assert names == {item.name for item in run.iterdir()}
    for fold in ("fold0", "fold1"):
        assert {"best.safetensors", "last.safetensors", "events.jsonl"} == {item.name for item in (run / fold).iterdir()}
    config = json.loads((run / "config.json").read_text())
    assert config["network"]["backbone"] == "test_efficientnet"


def test_training_again_needs_resume_and_resume_of_a_finished_run_changes_nothing(
    run: Path, showroom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An existing run is never overwritten; --resume finds all folds done."""
    before = {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    assert main(["train", str(showroom), *TINY, "--out", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", str(showroom), *TINY, "--out", str(run), "--fold", "all", "--resume"]) == 0
    assert before == {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    changed = [*TINY, "--set", "network.scale=9.0"]
    assert main(["train", str(showroom), *changed, "--out", str(run), "--resume"]) == 2
    assert "network.scale: 16.0 then, 9.0 now" in capsys.readouterr().err


def test_predict_writes_the_samples_exact_form(bundle: Path, showroom: Path, tmp_path: Path) -> None:
    """The submission has the sample's bytes in its header, its ids in its order, and rows that sum to 1."""
    out = tmp_path / "submission.csv"
    assert main(["predict", str(bundle), str(showroom / "test.csv"), "--out", str(out)]) == 0
    sample = showroom / "sample_submission.csv"
    assert out.read_bytes().split(b"\n")[0].strip() == sample.read_bytes().split(b"\n")[0].strip()
    submission, form = read_submission(out), read_sample(sample)
    assert submission.ids == form.ids
    assert np.allclose(submission.probs.sum(axis=1), 1.0, atol=1e-6)


def test_a_run_and_its_bundle_give_the_same_submission_with_any_number_of_workers(
    run: Path, bundle: Path, showroom: Path, tmp_path: Path
) -> None:
    """Where the model came from and how many threads decode leave no trace in the answer."""
    written = []
    for name, model, workers in (("a", run, 1), ("b", bundle, 1), ("c", bundle, 4)):
        out = tmp_path / f"{name}.csv"
        assert main(["predict", str(model), str(showroom / "test.csv"), "--out", str(out), "--workers", str(workers)]) == 0
        written.append(out.read_bytes())
    assert written[0] == written[1] == written[2]


def test_an_unreadable_photograph_gets_the_prior_and_is_named(
    bundle: Path, showroom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The damaged test photograph's row is the class prior, never another photograph's answer."""
    with (showroom / "truth" / "faults.csv").open(encoding="utf-8-sig") as file:
        bad = [row["file"] for row in csv.DictReader(file) if row["fault"] == "unusable" and row["file"].startswith("test/")]
    out = tmp_path / "submission.csv"
    assert main(["predict", str(bundle), str(showroom / "test.csv"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    submission, spec = read_submission(out), read_model(bundle)
    for file in bad:
        image_id = Path(file).stem
        assert image_id in said.err
        row = submission.probs[submission.ids.index(image_id)]
        assert np.allclose(np.sort(row)[::-1][: len(spec.prior)], np.sort(spec.prior)[::-1], atol=1e-6)
    assert bad


def test_predict_takes_photographs_and_folders(
    bundle: Path, showroom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a table, ids are file names and columns the class names in code-point order."""
    photos = sorted((showroom / "test").iterdir())[:3]
    assert main(["predict", str(bundle), *map(str, photos)]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) >= 3
    out = tmp_path / "folder.csv"
    assert main(["predict", str(bundle), str(showroom / "test"), "--out", str(out)]) == 0
    submission = read_submission(out)
    assert submission.columns == read_model(bundle).classes.names
    assert len(submission.ids) == len(list((showroom / "test").iterdir()))


def test_score_reads_what_predict_wrote(
    bundle: Path, showroom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """score prints strict, summed and maximum log loss for the whole and for both halves."""
    out = tmp_path / "submission.csv"
    main(["predict", str(bundle), str(showroom / "test.csv"), "--out", str(out)])
    capsys.readouterr()
    assert main(["score", str(out), str(showroom / "truth" / "answers.csv")]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("strict", "summed", "maximum", "split public", "split private"))


def test_plan_config_and_preview_print_and_draw(showroom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """plan has a row per epoch, config a row per key, preview leaves a picture."""
    assert main(["plan", "--preset", "seed2025"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 31
    assert lines[30].split()[:3] == ["30", "768", "32"]
    assert main(["config"]) == 0
    assert "training.head_multiplier" in capsys.readouterr().out
    out = tmp_path / "preview.png"
    assert main(["preview", str(showroom), *TINY, "--out", str(out), "--photos", "3"]) == 0
    with Image.open(out) as image:
        assert image.size[0] > 3 * 48


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere", "--out", "r"], "no such folder"),
        (["train", "{data}", "--preset", "labtop", "--out", "r"], "allowed: best, demo, laptop, seed2025"),
        (["train", "{data}", "--preset", "demo", "--set", "training.epoch=3", "--out", "r"], "nearest: training.epochs"),
        (
            ["train", "{data}", "--preset", "demo", "--weights", "gone.safetensors", "--out", "r"],
            "gone.safetensors does not exist",
        ),
        (["train", "{data}", *TINY, "--fold", "7", "--out", "r"], "--fold is 7; allowed: 0 to 1, or all"),
        (["train", "{data}", *TINY, "--fold", "x", "--out", "r"], "--fold is 'x'"),
        (["predict", "{data}", "{data}/test.csv"], "neither a bundle"),
        (["predict", "{bundle}", "missing.jpg"], "no such file or folder"),
        (["predict", "{bundle}", "{data}/test.csv", "--sample", "{data}/test.csv", "--out", "s.csv"], "test.csv"),
        (["bundle", "{data}", "--out", "b"], "not a run (no config.json in it)"),
        (["score", "{data}/test.csv", "{data}/truth/answers.csv"], "test.csv"),
    ],
)
def test_bad_input_gets_one_message_and_exit_code_2(
    arguments: list[str], words: str, showroom: Path, bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A mistake is named with what is allowed, nothing is half written, and there is no traceback."""
    monkeypatch.chdir(tmp_path)
    filled = [
        argument.format(data=showroom, bundle=bundle) if "{" in argument and "epochs:" not in argument else argument
        for argument in arguments
    ]
    assert main(filled) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_classifier_answers_like_the_command(bundle: Path, showroom: Path) -> None:
    """From Python, a path, its bytes and a Pillow image get the same answer as the table of the command line."""
    classifier = Classifier.load(bundle, device="cpu")
    good = next(file for file in sorted((showroom / "train").rglob("*_0000.jpg")))
    table = classifier.predict_proba([good])
    answer = classifier.predict(good)
    assert answer.name == classifier.classes.label(int(table.probs_NG[0].argmax()))
    assert answer.prob == pytest.approx(float(table.probs_NG[0].max()), rel=1e-4)
    assert answer == classifier.predict(good.read_bytes())
    with Image.open(good) as image:
        assert classifier.predict(image).prob == pytest.approx(answer.prob, rel=1e-4)
    assert sum(classifier.predict(good, top=99).probs) == pytest.approx(1.0)
    with pytest.raises(DataError, match=r"gone\.jpg"):
        classifier.predict("gone.jpg")


def _edit(bundle: Path, **changes: object) -> None:
    tree = json.loads((bundle / "bundle.json").read_text())
    tree.update(changes)
    (bundle / "bundle.json").write_text(json.dumps(tree))


def test_a_foreign_or_damaged_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    """Wrong format, version, digest, missing file, path that leaves the folder, wrong prior: each is named."""
    cases: list[tuple[str, str]] = []
    for number, (change, words) in enumerate(
        [
            ({"format": "other"}, "not a hectocar bundle"),
            ({"version": 99}, "version 99"),
            ({"prior": [1.0]}, "prior"),
            ({"members": []}, "no networks"),
            ({"models": [{"name": "x", "network": {"backbone": 3}, "inference": {}}]}, "backbone"),
            ({"frequency": [1.0]}, "frequency"),
            ({"finish": {"levels": []}}, "finish"),
        ]
    ):
        copy = tmp_path / str(number)
        shutil.copytree(bundle, copy)
        _edit(copy, **change)
        with pytest.raises(ArtifactError, match=words):
            read_model(copy)
        cases.append((str(copy), words))
    copy = tmp_path / "outside"
    shutil.copytree(bundle, copy)
    members = json.loads((copy / "bundle.json").read_text())["members"]
    _edit(copy, members=[{**members[0], "file": "../model0_fold0.safetensors"}])
    with pytest.raises(ArtifactError, match="plain name"):
        read_model(copy)
    copy = tmp_path / "flipped"
    shutil.copytree(bundle, copy)
    weights = copy / "model0_fold0.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="sha256"):
        read_model(copy)
    weights.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        read_model(copy)


def test_a_bundle_holds_no_path_of_the_machine_that_made_it(bundle: Path, showroom: Path) -> None:
    """Provenance names versions and digests, not folders."""
    text = (bundle / "bundle.json").read_text()
    assert str(showroom) not in text
    assert str(bundle.parent) not in text


@pytest.mark.slow
def test_the_demo_beats_a_uniform_guess_in_five_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`make demo` ends with a checked submission well below a uniform guess, a bundle and a picture."""
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    for name in ("submission.csv", "bundle/bundle.json", "predictions.png", "preview.png"):
        assert (tmp_path / "demo" / name).is_file()
    assert "uniform guess" in capsys.readouterr().out


def test_a_photograph_that_cannot_be_read_alone_is_an_error(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing to answer there is no answer: exit code 2, no file."""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photograph")
    assert main(["predict", str(bundle), str(bad), "--out", str(tmp_path / "out.csv")]) == 2
    assert "none of the 1 photographs can be read, first bad" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_the_recipe_trains_on_the_contests_layout(showroom: Path, tmp_path: Path) -> None:
    """seed2025 runs as it is but for the size of everything: all five phases, CutMix, MixUp, K = 3, two margins."""
    small = [
        "--preset", "seed2025", "--weights", "none", "--set", "network.backbone=test_convnext",
        "--set", "network.compile=false", "--set", "training.epochs=5", "--set", "data.num_folds=2",
    ]  # fmt: skip
    for place in range(5):
        small += ["--set", f"training.sizes.{place}.size_px={32 + 16 * place}", "--set", f"training.sizes.{place}.batch_size=8"]
    run = tmp_path / "run"
    assert main(["train", str(showroom), *small, "--out", str(run)]) == 0
    events = [json.loads(line) for line in (run / "fold0" / "events.jsonl").read_text().splitlines()]
    assert [event["size_px"] for event in events if event["kind"] == "epoch"] == [32, 48, 64, 80, 96]
    assert main(["predict", str(run), str(showroom / "test.csv"), "--out", str(tmp_path / "s.csv")]) == 0


def test_a_device_that_is_not_there_is_named(bundle: Path, showroom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong --device is one message, not a stack of torch's."""
    assert main(["predict", str(bundle), str(showroom / "test.csv"), "--device", "gpu"]) == 2
    assert "--device is 'gpu'" in capsys.readouterr().err
