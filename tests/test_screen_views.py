"""Laws of the screening: what is dropped could not have been chosen, what might pay stays, and the same is said every time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hectocar
from hectocar.calibration.choose_views import choose_views
from hectocar.calibration.evidence import Evidence
from hectocar.calibration.fit_chain import FinishReport, fit_finish
from hectocar.calibration.link import normalize_logits
from hectocar.calibration.screen_views import MENDABLE, NUM_ERRORS, ScreenedView, find_hopeless, screen_views
from hectocar.codec import encode
from hectocar.config.reader import read_config
from hectocar.dataset.classes import build_class_list
from hectocar.dataset.folds import Folds
from hectocar.dataset.manifest import USED, Manifest
from hectocar.dataset.run_inputs import Run, read_run
from hectocar.finishing import out_of_fold
from hectocar.finishing.out_of_fold import choose_part
from hectocar.progress import NoProgress
from test_finish_fit import NUM_CLASSES, NUM_PHOTOS, PRIOR, VIEWS, make_evidence
from tiny import change, make_config, write_photos


def screen(evidence: Evidence, step: int) -> list[ScreenedView]:
    """On every step-th photograph, condition by condition."""
    rows = []
    for place, condition in enumerate(evidence.conditions):
        part = np.flatnonzero((evidence.condition_N == place) & (evidence.photo_N % step == 0))
        rows += screen_views(VIEWS, [table[part] for table in evidence.log_probs], evidence.label_N[part], condition)
    return rows


def fit(evidence: Evidence, unusable: Evidence, places: list[int]) -> FinishReport:
    evidence, unusable = evidence.take(places), unusable.take(places)
    return fit_finish(
        evidence, unusable, views=[VIEWS[place] for place in places], costs=[1.0] * len(places),
        chosen=choose_views(evidence, unusable, len(places), 1, [0], PRIOR), num_models=1, prior_G=PRIOR, brightness=110.0,
        progress=NoProgress(),
    )  # fmt: skip


def test_the_finish_is_the_same_without_what_is_dropped() -> None:
    """The view of noise could not have been chosen: a sixth of the photographs tells it, and nothing fitted changes."""
    evidence, unusable = make_evidence(1, ("clean", "shifted")), make_evidence(2, ("dark", "noise"), unusable=True)
    assert find_hopeless(screen(evidence, 6)) == {"junk"}
    kept, everything = fit(evidence, unusable, [0, 1]), fit(evidence, unusable, [0, 1, 2])
    assert encode(kept.finish) == encode(everything.finish)
    assert np.array_equal(kept.nested, everything.nested)


def test_a_view_stays_where_it_is_good_under_one_condition() -> None:
    """Noise on clean photographs, signal on shifted ones."""
    evidence = make_evidence(1, ("clean", "shifted"))
    plain, mirror, junk = evidence.log_probs
    mixed = np.where((evidence.condition_N == 0)[:, None], junk, mirror)
    assert find_hopeless(screen(replace(evidence, log_probs=(plain, mirror, mixed)), 6)) == set()


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_a_temperature_decides_nothing(scale: float) -> None:
    """The same answers, far too sure or far too modest, are as good: a link mends that."""
    evidence = make_evidence(4, ("clean",))
    tables = [evidence.log_probs[0], normalize_logits(scale * evidence.log_probs[0].astype(np.float64))]
    same = screen_views(VIEWS[:2], tables, evidence.label_N, "clean")
    assert same[1].loss == pytest.approx(same[0].loss, abs=1e-4)
    assert find_hopeless(same) == set()


def test_the_rule_is_what_it_says() -> None:
    """The loss lies above the best one's by more than MENDABLE, by NUM_ERRORS standard errors of the paired difference."""
    found = screen(make_evidence(3, ("clean",)), 1)
    best = min(found, key=lambda row: row.loss)
    assert best.above_best.mean == best.above_best.standard_error == 0.0
    for row in found:
        assert row.above_best.mean == pytest.approx(row.loss - best.loss)
        assert row.is_hopeless == (row.above_best.mean > MENDABLE + NUM_ERRORS * row.above_best.standard_error)
        assert row.num_photos == NUM_PHOTOS


def make_run(folder: Path, num_photos: int, num_folds: int) -> Run:
    """As far as the choice of a part goes."""
    rng = np.random.default_rng(0)
    names = [f"car {number}" for number in range(NUM_CLASSES)]
    ids, fold = tuple(f"{number}.jpg" for number in range(num_photos)), rng.permutation(num_photos) % num_folds
    fold[::50] = -1
    empty, classes = ("",) * num_photos, tuple(names[number] for number in rng.integers(0, NUM_CLASSES, num_photos))
    zeros = np.zeros(num_photos, dtype=np.int64)
    manifest = Manifest(
        root=folder, image_id=ids, path=ids, class_name=classes, sha1=empty, status=(USED,) * num_photos, problem=empty,
        pixel_sha1=empty, look=zeros, width_px=zeros, height_px=zeros, num_bytes=zeros,
    )  # fmt: skip
    config = read_config("demo", None, [f"data.num_folds={num_folds}"])
    return Run(folder, config, manifest, build_class_list(names), Folds(ids, np.arange(num_photos), fold))


@pytest.mark.parametrize(("num_photos", "num_folds", "size"), [(8000, 5, 157), (2000, 5, 66), (700, 5, 0), (700, 2, 69)])
def test_a_part_is_spread_over_folds_and_classes(num_photos: int, num_folds: int, size: int, tmp_path: Path) -> None:
    """A tenth of each fold, 64 at least, or none where that would be more than a third; of every class its share; none that
    is not used; the same again."""
    run = make_run(tmp_path, num_photos, num_folds)
    part, labels = choose_part(run), run.manifest.labels(run.classes)
    assert np.array_equal(part, choose_part(run))
    assert not part[run.folds.fold < 0].any()
    for fold in range(num_folds):
        held_out = run.folds.fold == fold
        assert abs((part & held_out).sum() - size) <= 2
        for label in range(NUM_CLASSES):
            here = held_out & (labels == label)
            assert abs((part & here).sum() - here.sum() * size / held_out.sum()) <= 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished fold of 16 photographs, of which a part of four is screened on."""
    folder = tmp_path_factory.mktemp("screen")
    write_photos(folder / "data")
    config = change(make_config(), "data", num_folds=2)
    hectocar.train(folder / "data", folder / "run", config, device="cpu")
    return folder / "run"


def test_what_is_hopeless_is_asked_about_a_part_only_and_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is asked of the views that stay; a second finish asks nothing; --all-views finds what the first would have
    found if nothing had been dropped; the report names the dropped ones with their losses."""
    monkeypatch.setattr(out_of_fold, "MIN_PART", 4)
    asked: list[tuple[int, int]] = []
    infer = out_of_fold.infer_views

    def count(network: object, pictures: tuple[np.ndarray, ...], places: list[tuple[int, bool]], *rest: object) -> object:
        asked.append((len(pictures[0]), len(places)))
        return infer(network, pictures, places, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(out_of_fold, "infer_views", count)
    opened = read_run(run)
    num_part, held_out = int(choose_part(opened)[opened.folds.fold == 0].sum()), int((opened.folds.fold == 0).sum())
    views = ["plain", "mirror", "crop"]

    def finish(out: str, **options: bool) -> FinishReport:
        asked.clear()
        return hectocar.finish(run, tmp_path / out, views=views, device="cpu", **options).report

    monkeypatch.setattr(ScreenedView, "is_hopeless", property(lambda row: row.name == "crop"))
    report = finish("screened")
    assert 0 < num_part < held_out
    assert sum(photos for photos, num_views in asked if num_views == 3) == num_part
    assert sum(photos for photos, num_views in asked if num_views == 2) >= held_out - num_part
    assert [row.name for row in report.views] == ["plain", "mirror"]
    assert {(row.name, row.num_photos) for row in report.screened} == {(name, num_part) for name in views}
    text = (tmp_path / "screened" / "report" / "report.md").read_text("utf-8")
    assert f"| crop | clean | {num_part} | " in text
    assert "| the parts |" in text
    again = finish("again")
    assert asked == []
    assert encode(again.finish) == encode(report.finish)
    everything = finish("all", screen=False)
    assert [row.name for row in everything.views] == views
    assert everything.screened == ()
    monkeypatch.setattr(ScreenedView, "is_hopeless", False)
    assert encode(finish("none").finish) == encode(everything.finish)
