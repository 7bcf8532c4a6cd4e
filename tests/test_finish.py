"""Laws of the finished bundle: what was fitted out of fold is what is served, however the work is cut into pieces."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hectocar
from hectocar import ArtifactError, Classifier, ConfigError, DataError
from hectocar.cli import main
from hectocar.dataset.decisions import (
    DECISIONS_FILE,
    DROP,
    KEEP,
    SUSPECT_KINDS,
    Decision,
    read_decisions,
    write_decisions,
)
from hectocar.dataset.run_inputs import read_run
from hectocar.delivery import stream
from hectocar.delivery.bundle import read_model
from hectocar.delivery.runs import read_run_model
from hectocar.delivery.stream import parts_folder, predict_in_parts
from hectocar.finishing.out_of_fold import (
    CLEAN,
    SHIFTED,
    UNUSABLE_CONDITION,
    ViewTable,
    measure_brightness,
    predict_out_of_fold,
    predict_views,
)
from hectocar.network.carnet import CarNet
from hectocar.network.inference import infer_photos
from hectocar.photos.decode import read_photo_bytes
from hectocar.photos.unusable import UNUSABLE
from hectocar.photos.views import find_views
from hectocar.progress import NoProgress
from hectocar.scoring.submission import read_submission
from hectocar.showroom import ShowroomSpec, write_showroom
from tiny import CPU

CANDIDATES = "plain,mirror,bright,large"
SHIFT = {"gain": 1.0, "offset": -40.0, "gamma": 1.0, "jpeg_quality": 90}


@pytest.fixture(scope="module")
def showroom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes, one of them with two names, and a shift to validate under."""
    folder = tmp_path_factory.mktemp("data") / "showroom"
    write_showroom(folder, ShowroomSpec(num_classes=4, train_per_class=10, test_per_class=3, num_faults=1, long_edge_px=96))
    (folder.parent / "shift.json").write_text(json.dumps(SHIFT))
    return folder


def train(showroom: Path, out: Path, *settings: str, fold: str = "all") -> Path:
    """A run of two folds and one epoch."""
    arguments = ["network.backbone=test_efficientnet", "training.epochs=1", "training.warmup_epochs=0", "data.num_folds=2"]
    arguments += ["training.sizes=[{epochs: 1, size_px: 48, batch_size: 8, learning_rate: 1e-3}]", *settings]
    arguments += [f"data.shift={showroom.parent / 'shift.json'}"]
    sets = [word for setting in arguments for word in ("--set", setting)]
    assert main(["train", str(showroom), "--preset", "demo", *sets, "--fold", fold, "--out", str(out), "--device", "cpu"]) == 0
    return out


@pytest.fixture(scope="module")
def runs(showroom: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of different backbones and folds."""
    folder = tmp_path_factory.mktemp("runs")
    other = ("network.backbone=test_convnext", "data.fold_seed=7", "training.seed=3")
    return [train(showroom, folder / "first"), train(showroom, folder / "second", *other)]


@pytest.fixture(scope="module")
def bundle(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both runs, finished."""
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    assert main(["finish", *map(str, runs), "--out", str(folder), "--views", CANDIDATES, "--device", "cpu"]) == 0
    return folder


def ask(run_folder: Path, data: Path, views: list[str], condition: str) -> ViewTable:
    """Out of fold, on a processor."""
    run = read_run(run_folder)
    return predict_views(run, read_run_model(run), data, find_views(views), condition, 100.0, CPU, NoProgress())


def test_finish_prints_and_writes_its_tables(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every table is on the screen and in the report; the figures are there for programs, the picture for people."""
    folder = tmp_path / "bundle"
    assert main(["finish", str(runs[0]), "--out", str(folder), "--views", "plain,mirror", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    text = (folder / "report" / "report.md").read_text("utf-8")
    for words in ("Links of the chain", "Ways to blend", "Views", "Calibration", "Unusable", "Equivalent classes", "nested"):
        assert words in printed
        assert words in text
    figures = json.loads((folder / "report" / "figures.json").read_text("utf-8"))
    assert {"chain", "blends", "ece", "unusable_cost"} <= figures.keys()
    assert (folder / "report" / "calibration.png").stat().st_size > 10_000


def test_the_plain_view_out_of_fold_is_what_the_run_validates(runs: list[Path], showroom: Path) -> None:
    """Each photograph is predicted by the network that did not see it, in the plain view exactly as in validation."""
    table = ask(runs[0], showroom, CANDIDATES.split(","), CLEAN)
    run = read_run(runs[0])
    config, manifest, folds = run.config, run.manifest, run.folds
    assert sorted(table.image_id) == sorted(manifest.image_id[row] for row in manifest.used())
    fold_of = dict(zip(folds.image_id, folds.fold.tolist(), strict=True))
    assert all(fold_of[image_id] == fold for image_id, fold in zip(table.image_id, table.fold.tolist(), strict=True))
    spec = read_model(runs[0])
    classifier = Classifier(spec, CPU)
    for loaded in classifier.members:
        rows = np.flatnonzero(table.fold == loaded.member.fold)
        output = infer_photos(
            [loaded.network], [showroom / table.image_id[row] for row in rows], size_px=loaded.member.size_px,
            inference=config.inference, data=config.data, precision=spec.models[0].precision,
        )[0]  # fmt: skip
        np.testing.assert_allclose(table.logits[0, rows], output.logits, rtol=1e-5, atol=1e-5)


def test_shifted_and_unusable_tables_hold_the_same_photographs(runs: list[Path], showroom: Path) -> None:
    """Shifted: every photograph, darker. Unusable: some photographs, once in each way."""
    tables = {name: ask(runs[0], showroom, ["plain"], name) for name in (CLEAN, SHIFTED, UNUSABLE_CONDITION)}
    assert tables[CLEAN].image_id == tables[SHIFTED].image_id
    assert (tables[CLEAN].looks[:, 0] > tables[SHIFTED].looks[:, 0] + 10).all()
    kinds = tables[UNUSABLE_CONDITION].kind
    assert {kind: kinds.count(kind) for kind in UNUSABLE} == dict.fromkeys(UNUSABLE, len(kinds) // len(UNUSABLE))


def test_audit_and_finish_share_what_was_predicted(
    runs: list[Path], bundle: Path, showroom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `finish`, `audit --run` computes nothing; a view that nobody has asked for yet is computed."""
    monkeypatch.setattr("hectocar.finishing.out_of_fold.infer_views", None)
    assert len(predict_out_of_fold(runs[0], showroom, CPU, NoProgress()).image_id) > 0
    with pytest.raises(TypeError):
        ask(runs[0], showroom, ["half"], CLEAN)


def test_photographs_that_are_gone_or_changed_are_not_judged(
    runs: list[Path], showroom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaced by another picture, emptied or deleted since the run was made: named, before any network is asked. Every
    photograph is read once for it."""
    moved = tmp_path / "moved"
    shutil.copytree(showroom, moved)
    manifest = read_run(runs[0]).manifest
    first, second = (moved / manifest.path[row] for row in manifest.used()[:2])
    replaced = lambda: first.write_bytes(second.read_bytes())  # noqa: E731
    read: list[Path] = []
    monkeypatch.setattr("hectocar.dataset.manifest.read_photo_bytes", lambda file: read.append(file) or read_photo_bytes(file))
    monkeypatch.setattr("hectocar.finishing.out_of_fold.infer_views", None)
    for change in (replaced, lambda: first.write_bytes(b""), first.unlink):
        change()
        with pytest.raises(DataError, match=r"1 of \d+ photographs are not those of the run: train.*--data DIR"):
            hectocar.finish(runs[0], tmp_path / "b", data=moved, views=["half"], device="cpu")
        assert len(read) == len(manifest.used())
        read.clear()


def test_what_is_no_run_or_no_view_is_refused_before_torch_is_loaded(runs: list[Path], tmp_path: Path) -> None:
    """At once, by `finish` and `bundle`."""
    code = "import sys; from hectocar.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    for command in (["finish", tmp_path], ["finish", runs[0], "--views", "plane"], ["bundle", tmp_path]):
        words = [sys.executable, "-c", code, *command, "--out", tmp_path / "b"]
        assert subprocess.run(words, check=True, timeout=300, capture_output=True, text=True).stdout == "2 False\n", command


def test_what_an_audit_suspects_is_expected_for_apart(
    runs: list[Path], showroom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`finish --audit` and then `predict` say the loss with and without the kept suspects; dropped and relabelled rows and the
    test set's are none. Another folder, or an audit of other photographs, is refused."""
    audit, bundle = tmp_path / "audit", tmp_path / "bundle"
    assert main(["audit", str(showroom), "--out", str(audit), "--device", "cpu"]) == 0
    manifest = read_run(runs[0]).manifest
    used = [manifest.image_id[row] for row in manifest.used()]
    kinds = [(kind, KEEP) for kind in ("wrong_label", "no_car", "rotated", "part_only", "odd_but_fine")] + [
        ("wrong_label", DROP)
    ]
    rows = [Decision(image_id, kind, decision) for image_id, (kind, decision) in zip(used, kinds, strict=False)]
    known = [row for row in read_decisions(audit / DECISIONS_FILE) if row.kind not in SUSPECT_KINDS]
    write_decisions(audit / DECISIONS_FILE, [*known, *rows, Decision("test/unknown.jpg", "no_car", KEEP)])
    arguments = ["finish", str(runs[0]), "--out", str(bundle), "--views", "plain,mirror", "--device", "cpu"]
    assert main([*arguments, "--audit", str(tmp_path / "none")]) == 2
    assert not bundle.exists()
    assert main([*arguments, "--audit", str(audit)]) == 0
    assert "without 4 suspects of the audit" in (bundle / "report" / "report.md").read_text("utf-8")
    capsys.readouterr()
    predict(bundle, showroom, tmp_path / "a.csv")
    assert "without the 4 photographs that the audit suspects" in capsys.readouterr().err


def test_the_bundle_holds_what_prediction_needs_and_no_path(bundle: Path, runs: list[Path], tmp_path: Path) -> None:
    """Networks of both runs, a bank each, the finish; no folder of the machine; it answers after a move."""
    spec, manifest = read_model(bundle), read_run(runs[0]).manifest
    assert [(member.model, member.fold) for member in spec.members] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(member.bank for member in spec.members)
    assert spec.finish is not None
    assert spec.finish.brightness == pytest.approx(measure_brightness(manifest, manifest.root))
    text = (bundle / "bundle.json").read_text("utf-8")
    assert str(runs[0].parent) not in text
    moved = tmp_path / "moved"
    shutil.copytree(bundle, moved)
    assert len(Classifier.load(moved, device="cpu").members) == 4


def predict(bundle: Path, showroom: Path, out: Path, *options: str) -> bytes:
    arguments = ["predict", str(bundle), str(showroom / "test.csv"), "--out", str(out), "--device", "cpu", *options]
    assert main(arguments) == 0
    return out.read_bytes()


def test_any_number_of_workers_gives_the_same_file(bundle: Path, showroom: Path, tmp_path: Path) -> None:
    """To the last byte; and nothing but the mark by which it is known stays beside it."""
    first = predict(bundle, showroom, tmp_path / "a.csv", "--workers", "1")
    assert predict(bundle, showroom, tmp_path / "b.csv", "--workers", "5") == first
    assert sorted(item.name for item in tmp_path.iterdir() if not item.name.startswith(".")) == ["a.csv", "b.csv"]


def test_an_interrupted_prediction_goes_on_and_gives_the_same_file(
    bundle: Path, showroom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut at the third part, the parts before it are kept and taken up; a damaged part is made again."""
    monkeypatch.setattr(stream, "PART_PHOTOS", 4)
    whole = predict(bundle, showroom, tmp_path / "whole.csv")
    out, calls = tmp_path / "cut.csv", []
    answer = Classifier.predict_proba

    def cut(self: Classifier, files: Any, **settings: Any) -> Any:
        calls.append(files)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer(self, files, **settings)

    monkeypatch.setattr(Classifier, "predict_proba", cut)
    assert main(["predict", str(bundle), str(showroom / "test.csv"), "--out", str(out), "--device", "cpu"]) == 130
    assert not out.exists()
    assert sorted(item.name for item in parts_folder(out).iterdir()) == ["000000.npz", "000001.npz", "parts.json"]
    (parts_folder(out) / "000001.npz").write_bytes(b"half")
    capsys.readouterr()
    monkeypatch.setattr(Classifier, "predict_proba", answer)
    assert predict(bundle, showroom, out) == whole
    assert "4 of" in capsys.readouterr().err
    assert not parts_folder(out).exists()


def test_parts_of_other_photographs_or_views_are_not_taken_up(bundle: Path, showroom: Path, tmp_path: Path) -> None:
    """Parts belong to one model, one choice and one list of photographs; a stranger's folder is left alone."""
    files = tuple(sorted((showroom / "test").iterdir()))[:4]
    folder = tmp_path / "answer.parts"
    one, all_views = (Classifier.load(bundle, device="cpu", num_views=count) for count in (1, None))
    assert predict_in_parts(one, files, folder)[1] == 0
    assert predict_in_parts(one, files, folder)[1] == 4
    assert predict_in_parts(all_views, files, folder)[1] == (0 if len(all_views.level.views) > 1 else 4)
    assert predict_in_parts(one, files[:3], folder)[1] == 0
    strange = tmp_path / "strange.parts"
    strange.mkdir()
    (strange / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="none of ours"):
        predict_in_parts(one, files, strange)
    assert (strange / "mine.txt").read_text() == "mine"


def test_permuting_the_photographs_permutes_the_rows(bundle: Path, showroom: Path) -> None:
    """A photograph's row does not depend on the others; it may differ by roundings of float32."""
    classifier = Classifier.load(bundle, device="cpu")
    files = sorted((showroom / "train").rglob("*_000[0-4].jpg"))
    order = np.random.default_rng(0).permutation(len(files))
    table, mixed = classifier.predict_proba(files), classifier.predict_proba([files[place] for place in order])
    np.testing.assert_allclose(mixed.probs_NG, table.probs_NG[order], rtol=0.0, atol=1e-5)
    assert {int(np.flatnonzero(order == row)[0]) for row in table.problems} == set(mixed.problems)
    np.testing.assert_allclose(table.probs_NG.sum(axis=1), 1.0, atol=1e-9)
    assert table.probs_NG.min() >= 0.0


def test_one_photograph_gets_the_row_of_the_table(bundle: Path, showroom: Path) -> None:
    """`predict` from Python and the table agree, views, neighbours and floor included."""
    classifier = Classifier.load(bundle, device="cpu")
    file = next(iter(sorted((showroom / "train").rglob("*_0001.jpg"))))
    row = classifier.predict_proba([file]).probs_NG[0]
    answer = classifier.predict(read_photo_bytes(file), top=99)
    assert answer.name == classifier.classes.label(int(row.argmax()))
    np.testing.assert_allclose(sorted(answer.probs), sorted(row), atol=1e-6)


def test_fewer_views_and_folds_cost_less_and_say_what_to_expect(
    bundle: Path, showroom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The screen names networks, views, cost and the expected loss of the choice; wrong numbers are refused."""
    full, small = Classifier.load(bundle, device="cpu"), Classifier.load(bundle, device="cpu", num_views=1, num_folds=1)
    assert small.cost <= full.cost / 2
    assert len(small.members) == 2
    predict(bundle, showroom, tmp_path / "small.csv", "--views", "1", "--folds", "1")
    said = capsys.readouterr().err
    assert "2 networks x 1 views" in said
    assert "expected log loss" in said
    for options, words in ((["--views", "0"], "--views is 0"), (["--folds", "3"], "--folds is 3; allowed: 1 to 2")):
        out = tmp_path / "no.csv"
        assert main(["predict", str(bundle), str(showroom / "test.csv"), "--out", str(out), *options]) == 2
        assert words in capsys.readouterr().err


def test_a_run_has_no_fitted_views(runs: list[Path]) -> None:
    """Asked for views, an unfinished model says which command fits them."""
    with pytest.raises(ConfigError, match="hectocar finish"):
        Classifier.load(runs[0], device="cpu", num_views=1)


def test_policies_for_equivalent_classes_reach_the_submission(bundle: Path, showroom: Path, tmp_path: Path) -> None:
    """Whole leaves one of the two columns empty, split halves it; every row still sums to 1."""
    classes = read_model(bundle).classes
    pair = next(names for names in classes.members if len(names) == 2)
    columns = {}
    for policy in ("whole", "split", "frequency"):
        predict(bundle, showroom, tmp_path / f"{policy}.csv", "--equivalent", policy)
        table = read_submission(tmp_path / f"{policy}.csv")
        columns[policy] = table.probs[:, [table.columns.index(name) for name in pair]]
        np.testing.assert_allclose(table.probs.sum(axis=1), 1.0, atol=1e-6)
    assert (columns["whole"].min(axis=1) == 0.0).all()
    np.testing.assert_allclose(columns["split"][:, 0], columns["split"][:, 1])
    np.testing.assert_allclose(columns["frequency"].sum(axis=1), columns["whole"].sum(axis=1), atol=1e-7)


def test_runs_that_do_not_belong_together_are_refused(
    runs: list[Path], showroom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other photographs, other classes, one run twice, a bundle that exists: each has its message, and nothing is written."""
    fewer = train(showroom, tmp_path / "fewer", "data.drop_exact_duplicates=false", "data.exclude=[]")
    classes = train(showroom, tmp_path / "classes", "data.class_limit=2")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("mine")
    cases = (
        ([runs[0], fewer], tmp_path / "b", "trained on other photographs"),
        ([runs[0], classes], tmp_path / "b", "classes or their order differ"),
        ([runs[0], runs[0]], tmp_path / "b", "given twice"),
        ([runs[0]], tmp_path / "there", "exists and is not a bundle"),
        ([tmp_path / "gone"], tmp_path / "b", "not a run"),
    )
    for folders, out, words in cases:
        capsys.readouterr()
        assert main(["finish", *map(str, folders), "--out", str(out), "--device", "cpu"]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "b").exists()
    assert main(["finish", str(runs[0]), "--out", str(tmp_path / "b"), "--views", "plane"]) == 2
    assert "nearest" in capsys.readouterr().err


def test_one_finished_fold_is_enough(showroom: Path, tmp_path: Path) -> None:
    """Its held-out photographs are dealt into parts, so that the estimates are nested all the same."""
    run = train(showroom, tmp_path / "run", fold="0")
    assert main(["finish", str(run), "--out", str(tmp_path / "b"), "--views", "plain", "--device", "cpu"]) == 0
    assert len(read_model(tmp_path / "b").members) == 1


def test_a_damaged_finish_or_bank_is_refused(bundle: Path, tmp_path: Path) -> None:
    """Weights that do not fit, a missing bank, other bytes: the bundle does not load."""
    tree = json.loads((bundle / "bundle.json").read_text("utf-8"))
    level = tree["finish"]["levels"][0]
    views = {"kind": "views", "blend": {"weights": [0.5, 0.25, 0.25], "mean": "geometric"}}
    number = {"log_base": 0.0, "slopes": [], "means": [], "scales": []}
    once = {"kind": "temperature", "temperature": number}
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"finish": {**tree["finish"], "levels": []}}, "levels"),
        ({"finish": {**tree["finish"], "levels": [{**level, "links": [views]}]}}, "3 weights; allowed: 2 models x"),
        ({"finish": {**tree["finish"], "levels": [{**level, "links": [once, once]}]}}, "each once"),
        ({"finish": {**tree["finish"], "levels": [{**level, "links": [{**once, "kind": "heat"}]}]}}, "kind is 'heat'"),
        (
            {"finish": {**tree["finish"], "levels": [{**level, "links": [{"kind": "floor", "floor": {}}]}]}},
            "floor.intercept",
        ),
        ({"finish": {**tree["finish"], "levels": [{**level, "views": ["plain", "mirror"], "links": []}]}}, "no blend|1 view"),
        ({"finish": {**tree["finish"], "levels": [{**level, "views": ["sideways"]}]}}, "view|weights"),
        ({"members": [{**member, "bank": ""} for member in tree["members"]]}, "has no bank"),
        ({"members": [{**tree["members"][0], "bank": "../x.safetensors"}]}, "plain name"),
        ({"members": [{**tree["members"][0], "model": 9}]}, "model is 9"),
    )
    for place, (change, words) in enumerate(changes):
        copy = tmp_path / str(place)
        shutil.copytree(bundle, copy)
        (copy / "bundle.json").write_text(json.dumps({**tree, **change}))
        with pytest.raises(ArtifactError, match=words):
            read_model(copy)
    bank = tmp_path / "bank"
    shutil.copytree(bundle, bank)
    file = bank / tree["members"][0]["bank"]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="sha256"):
        read_model(bank)


def test_a_view_that_a_network_cannot_take_is_left_out(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network of one size has no larger view: it is said, and the rest is fitted."""

    def check(_: CarNet, sizes_px: list[int]) -> None:
        if max(sizes_px) > 48:
            raise ConfigError("too large")

    monkeypatch.setattr("hectocar.finishing.finish.check_sizes", check)
    arguments = ["finish", str(runs[0]), "--out", str(tmp_path / "b"), "--views", "plain,large,mirror", "--device", "cpu"]
    assert main(arguments) == 0
    assert "view large is left out: test_efficientnet cannot take 64 px" in capsys.readouterr().err
    assert all("large" not in level.views for level in read_model(tmp_path / "b").finish.levels)
