"""The showroom keeps its word: same bytes from the same spec, the contest's layout, and a truth that is true."""

import csv
import hashlib
import io
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hectocar.errors import ArtifactError, DataError
from hectocar.showroom import (
    EQUIVALENT_PAIR,
    ShowroomSpec,
    ShowroomSummary,
    class_names,
    facelift_pairs,
    render_photo,
    write_showroom,
)
from hectocar.showroom.atlas import Material
from hectocar.showroom.camera import View
from hectocar.showroom.catalogue import catalogue, find_design
from hectocar.showroom.faults import FAULT_KINDS, near_duplicate
from hectocar.showroom.photo import render_scene
from hectocar.showroom.render import build_atlas
from hectocar.showroom.scene import draw_scene

SPEC = ShowroomSpec(num_classes=5, train_per_class=5, test_per_class=3, seed=11, long_edge_px=96, num_faults=5)
TINY = ShowroomSpec(num_classes=2, train_per_class=2, test_per_class=1, seed=3, long_edge_px=64, num_faults=1)
FRONT = View(azimuth_deg=35.0, elevation_deg=8.0, distance_lengths=1.7)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> ShowroomSummary:
    return write_showroom(tmp_path_factory.mktemp("showroom") / "data", SPEC)


def read_rows(path: Path, encoding: str = "utf-8") -> list[dict[str, str]]:
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


def faults_of(shown: ShowroomSummary, kind: str) -> list[dict[str, str]]:
    return [row for row in read_rows(shown.folder / "truth" / "faults.csv") if row["fault"] == kind]


def read_tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def load_pixels(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)


# ---- determinism ----------------------------------------------------------------------------------------------------


def test_same_spec_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two writes of one spec are byte-identical; another seed changes every photo."""
    first = read_tree(write_showroom(tmp_path / "a", TINY).folder)
    second = read_tree(write_showroom(tmp_path / "b", TINY).folder)
    other = read_tree(write_showroom(tmp_path / "c", replace(TINY, seed=4, num_faults=0)).folder)
    assert first == second
    assert not set(first.values()) & {data for name, data in other.items() if name.endswith(".jpg")}


def test_render_photo_depends_on_class_and_seed_only() -> None:
    """A photo is a pure function of class, seed and size, whatever was drawn before."""
    name, other = class_names(2)
    first = render_photo(name, 7, width_px=90, height_px=60)
    render_photo(other, 8, width_px=50, height_px=70)
    assert first.tobytes() == render_photo(name, 7, width_px=90, height_px=60).tobytes()
    assert first.tobytes() != render_photo(name, 8, width_px=90, height_px=60).tobytes()
    assert first.mode == "RGB"
    assert first.size == (90, 60)


@pytest.mark.parametrize("size", [(16, 16), (40, 300), (300, 40)])
def test_odd_sizes_are_drawn_all_the_same(size: tuple[int, int]) -> None:
    """No frame is too small, too narrow or too flat for any kind of place."""
    for seed in range(12):
        assert render_photo(class_names(2)[0], seed, width_px=size[0], height_px=size[1]).size == size


# ---- classes --------------------------------------------------------------------------------------------------------


def test_class_names_are_unique_nfc_and_in_code_point_order() -> None:
    """Names mix Korean and ASCII, are stored composed, and sort by code point and by nothing else."""
    names = class_names(48)
    assert len(set(names)) == 48
    assert names == sorted(names)
    assert all(unicodedata.is_normalized("NFC", name) for name in names)
    assert any(not name.isascii() for name in names)
    assert any(name.isascii() for name in names)
    assert set(class_names(24)) < set(names)
    assert names[0] == EQUIVALENT_PAIR[0]  # a digit sorts before letters, those before Korean


def test_designs_differ_but_for_the_equivalent_pair() -> None:
    """One car per class, but for the one pair that is the same car under two names."""
    by_design: dict[object, list[str]] = {}
    for name, design in catalogue().items():
        by_design.setdefault(design, []).append(name)
    assert [tuple(sorted(group)) for group in by_design.values() if len(group) > 1] == [EQUIVALENT_PAIR]


def test_facelift_changes_a_small_part_of_the_photo() -> None:
    """A facelift pair with one seed differs somewhere in the panels, and in at most a tenth of a front view."""
    pairs = facelift_pairs()
    assert len(pairs) >= 15
    scene = replace(draw_scene(np.random.default_rng(5)), view=FRONT, grain=0.0)
    for first, second in pairs:
        old, new = (np.asarray(render_scene(find_design(name), scene, 150, 100), dtype=int) for name in (first, second))
        share = float((np.abs(old - new).max(axis=2) > 4).mean())
        assert 0.0005 < share < 0.10, (first, second, share)


def test_every_material_is_used_somewhere() -> None:
    """No design misses body, glass, lamps, tail lamps, tyres, rims or a number plate."""
    needed = {Material.BODY, Material.GLASS, Material.LAMP_HOT, Material.RED, Material.TYRE, Material.RIM, Material.PLATE}
    for name, design in catalogue().items():
        # The bottom rows hold one swatch of every material.
        assert needed <= set(np.unique(build_atlas(design)[:-16]).tolist()), name


def test_classes_are_learnable_from_pixels() -> None:
    """At a fixed view, the nearest mean of small grey pictures names the class far more often than chance."""
    names = [name for name in class_names(10) if name != EQUIVALENT_PAIR[1]]

    def look(name: str, seed: int) -> NDArray[np.float64]:
        scene = replace(draw_scene(np.random.default_rng(seed)), view=FRONT, place="showroom")
        small = render_scene(find_design(name), scene, 96, 64).convert("L").resize((48, 32))
        grey = np.asarray(small, dtype=np.float64).ravel()
        return (grey - grey.mean()) / grey.std()

    means = np.stack([np.mean([look(name, 100 + seed) for seed in range(10)], axis=0) for name in names])
    hits = [int(np.argmax(means @ look(name, seed))) == k for k, name in enumerate(names) for seed in range(6)]
    # Nine classes: chance is 0.11.
    assert float(np.mean(hits)) > 0.5


# ---- layout ---------------------------------------------------------------------------------------------------------


def test_layout_is_the_contests(shown: ShowroomSummary) -> None:
    """Folders, file names, columns and encodings are those of the contest's own files."""
    folder, names = shown.folder, class_names(SPEC.num_classes)
    assert sorted(path.name for path in folder.iterdir()) == [
        "equivalent_classes.csv", "sample_submission.csv", "test", "test.csv", "train", "truth",
    ]  # fmt: skip
    assert sorted(path.name for path in (folder / "train").iterdir()) == names
    for name in names:
        files = sorted(path.name for path in (folder / "train" / name).iterdir())
        assert files == [f"{name}_{k:04d}.jpg" for k in range(len(files))]
    ids = [f"TEST_{k:05d}" for k in range(shown.num_test)]
    assert sorted(path.stem for path in (folder / "test").iterdir()) == ids
    assert read_rows(folder / "test.csv") == [{"ID": i, "img_path": f"./test/{i}.jpg"} for i in ids]


def test_sample_submission_has_a_mark_and_zeros(shown: ShowroomSummary) -> None:
    """The sample submission alone starts with a byte-order mark; all its probabilities are the integer 0."""
    folder = shown.folder
    marked = [path.name for path in sorted(folder.rglob("*.csv")) if path.read_bytes().startswith(b"\xef\xbb\xbf")]
    assert marked == ["sample_submission.csv"]
    lines = (folder / "sample_submission.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].split(",") == ["ID", *class_names(SPEC.num_classes)]
    assert lines[1:] == [f"TEST_{k:05d}" + ",0" * SPEC.num_classes for k in range(shown.num_test)]


def test_answers_cover_the_test_set_half_and_half(shown: ShowroomSummary) -> None:
    """Each class has its share of test photos, shuffled, and public and private differ by one at most."""
    rows = read_rows(shown.folder / "truth" / "answers.csv")
    assert [row["ID"] for row in rows] == [f"TEST_{k:05d}" for k in range(shown.num_test)]
    labels = [row["label"] for row in rows]
    assert Counter(labels) == dict.fromkeys(class_names(SPEC.num_classes), SPEC.test_per_class)
    assert labels != sorted(labels)
    split = Counter(row["split"] for row in rows)
    assert set(split) == {"public", "private"}
    assert abs(split["public"] - split["private"]) <= 1


def test_equivalent_pair_is_there_from_four_classes_on(shown: ShowroomSummary, tmp_path: Path) -> None:
    """The table names one pair if both are in the data, and is empty otherwise."""
    assert [tuple(row.values()) for row in read_rows(shown.folder / "equivalent_classes.csv")] == [EQUIVALENT_PAIR]
    assert set(EQUIVALENT_PAIR) <= set(class_names(4))
    tiny = write_showroom(tmp_path / "tiny", TINY)
    assert read_rows(tiny.folder / "equivalent_classes.csv") == []


def test_counts_and_progress_add_up(tmp_path: Path) -> None:
    """The summary counts what is on disk, and progress goes from 1 to the number of photos."""
    calls: list[tuple[int, int]] = []
    summary = write_showroom(tmp_path / "x", TINY, lambda done, total: calls.append((done, total)))
    train = list((summary.folder / "train").rglob("*.jpg"))
    assert len(train) == summary.num_train == 2 * 2 + len(FAULT_KINDS)
    assert len(list((summary.folder / "test").iterdir())) == summary.num_test == 2
    total = summary.num_train + summary.num_test
    assert calls == [(k + 1, total) for k in range(total)]


def test_no_faults_means_clean_data(tmp_path: Path) -> None:
    """With num_faults=0 every file is a distinct plain RGB JPEG, the fault table is empty, and sizes vary."""
    summary = write_showroom(tmp_path / "clean", replace(TINY, train_per_class=8, num_faults=0))
    assert set(summary.faults.values()) == {0}
    assert read_rows(summary.folder / "truth" / "faults.csv") == []
    paths = sorted(summary.folder.rglob("*.jpg"))
    assert len({path.read_bytes() for path in paths}) == len(paths) == 18
    sizes = set()
    for path in paths:
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            image.load()
            sizes.add(image.size)
            assert 0.75 * 64 <= max(image.size) <= 1.25 * 64
    assert len(sizes) > 9


def test_test_photos_are_darker_by_the_given_share(tmp_path: Path) -> None:
    """Darkening multiplies the test photos' brightness by 1 - share and leaves train alone."""
    dark = write_showroom(tmp_path / "dark", replace(TINY, num_faults=0, test_darkening=0.4))
    bright = write_showroom(tmp_path / "bright", replace(TINY, num_faults=0, test_darkening=0.0))
    for path in sorted((dark.folder / "test").iterdir()):
        ratio = load_pixels(path).mean() / load_pixels(bright.folder / "test" / path.name).mean()
        assert ratio == pytest.approx(0.6, abs=0.03)
    for path in (dark.folder / "train").rglob("*.jpg"):
        assert path.read_bytes() == (bright.folder / path.relative_to(dark.folder)).read_bytes()


# ---- planted faults -------------------------------------------------------------------------------------------------


def test_each_kind_of_fault_is_planted_as_often_as_asked(shown: ShowroomSummary) -> None:
    """The table has num_faults rows of each kind in train, each on its own file, and one broken test photo."""
    rows = read_rows(shown.folder / "truth" / "faults.csv")
    assert len({row["file"] for row in rows}) == len(rows)
    assert Counter(row["fault"] for row in rows) == shown.faults
    in_train = Counter(row["fault"] for row in rows if row["file"].startswith("train/"))
    assert in_train == dict.fromkeys(FAULT_KINDS, SPEC.num_faults)
    assert [row["fault"] for row in rows if row["file"].startswith("test/")] == ["unusable"]
    assert shown.num_train == SPEC.num_classes * SPEC.train_per_class + len(FAULT_KINDS) * SPEC.num_faults


def test_byte_copies_are_exactly_the_planted_ones(shown: ShowroomSummary) -> None:
    """Files with equal SHA-1 are the three kinds of copy and their originals; no other two files are equal."""
    by_digest: dict[str, set[str]] = {}
    for name, data in read_tree(shown.folder).items():
        if name.endswith(".jpg"):
            by_digest.setdefault(hashlib.sha1(data).hexdigest(), set()).add(name)
    found = {frozenset(group) for group in by_digest.values() if len(group) > 1}
    copies = [
        row for kind in ("exact_duplicate", "duplicate_other_class", "train_test_duplicate") for row in faults_of(shown, kind)
    ]
    assert found == {frozenset((row["file"], row["detail"])) for row in copies}


def test_copies_lie_where_their_name_says(shown: ShowroomSummary) -> None:
    """Exact and near duplicates stay in the class, others leave it, and never for the same car's other name."""
    answers = {row["ID"]: row["label"] for row in read_rows(shown.folder / "truth" / "answers.csv")}
    for kind in ("exact_duplicate", "near_duplicate"):
        assert all(Path(row["file"]).parent == Path(row["detail"]).parent for row in faults_of(shown, kind))
    for row in faults_of(shown, "train_test_duplicate"):
        assert Path(row["file"]).parent.name == answers[Path(row["detail"]).stem]
    moved = [(row["file"], Path(row["detail"]).parent.name) for row in faults_of(shown, "duplicate_other_class")]
    moved += [(row["file"], row["detail"]) for row in faults_of(shown, "wrong_label")]
    for file, true_class in moved:
        folder_class = Path(file).parent.name
        assert true_class in class_names(SPEC.num_classes)
        assert folder_class != true_class
        assert {folder_class, true_class} != set(EQUIVALENT_PAIR)


def test_near_duplicates_show_the_same_picture(shown: ShowroomSummary) -> None:
    """A near duplicate has other bytes but looks like its original, as it is or mirrored."""
    for row in faults_of(shown, "near_duplicate"):
        copy, original = ((shown.folder / row[key]) for key in ("file", "detail"))
        assert copy.read_bytes() != original.read_bytes()
        with Image.open(copy) as a, Image.open(original) as b:
            pictures = [a.convert("L"), b.convert("L"), ImageOps.mirror(b.convert("L"))]
        small = [np.asarray(picture.resize((24, 16)), dtype=np.float64).ravel() for picture in pictures]
        assert max(np.corrcoef(small[0], other)[0, 1] for other in small[1:]) > 0.85


@pytest.mark.parametrize("variant", ["recompressed", "resized", "brightened", "cropped", "mirrored"])
def test_near_duplicate_variants_change_the_bytes(variant: str) -> None:
    """Each variant yields a JPEG that differs from what it came from."""
    buffer = io.BytesIO()
    render_photo(class_names(2)[0], 1, width_px=96, height_px=64).save(buffer, "JPEG", quality=80)
    data = near_duplicate(buffer.getvalue(), variant)
    assert data != buffer.getvalue()
    assert data[:2] == b"\xff\xd8"


def test_unusable_files_do_not_decode(shown: ShowroomSummary) -> None:
    """Pillow raises on every unusable file and on no other photo."""
    bad = {row["file"] for row in faults_of(shown, "unusable")}
    refused = set()
    for path in shown.folder.rglob("*.jpg"):
        try:
            with Image.open(path) as image:
                image.load()
        except OSError:
            refused.add(path.relative_to(shown.folder).as_posix())
    assert refused == bad
    assert {row["detail"] for row in faults_of(shown, "unusable")} == {"truncated", "text", "zero_bytes"}


def test_odd_files_are_what_the_truth_says(shown: ShowroomSummary) -> None:
    """PNG under a .jpg name, CMYK, grey, and stored sideways with an orientation tag: all decode."""
    kinds = {}
    for row in faults_of(shown, "odd_but_fine"):
        with Image.open(shown.folder / row["file"]) as image:
            image.load()
            kinds[row["detail"]] = (image.format, image.mode, image.getexif().get(0x0112))
    assert kinds == {
        "png": ("PNG", "RGB", None),
        "cmyk": ("JPEG", "CMYK", None),
        "exif_rotated": ("JPEG", "RGB", 6),
        "grey": ("JPEG", "L", None),
    }


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", 1), ("num_classes", 49), ("train_per_class", 1), ("test_per_class", 0), ("seed", -1),
        ("long_edge_px", 63), ("long_edge_px", 1025), ("test_darkening", 0.91), ("test_darkening", -0.1), ("num_faults", -1),
    ],
)  # fmt: skip
def test_bad_spec_is_refused_with_its_range(field: str, value: float) -> None:
    """A value outside of its range is named together with what is allowed."""
    with pytest.raises(DataError, match=rf"{field} is {value}; allowed: "):
        replace(SPEC, **{field: value})  # type: ignore[arg-type]


def test_bad_photo_arguments_are_refused() -> None:
    """Unknown classes, impossible edges and negative seeds are named."""
    name = class_names(2)[0]
    with pytest.raises(DataError, match="Trabant"):
        render_photo("Trabant", 1, width_px=64, height_px=64)
    with pytest.raises(DataError, match="width_px is 3; allowed: 16"):
        render_photo(name, 1, width_px=3, height_px=64)
    with pytest.raises(DataError, match="seed is -1"):
        render_photo(name, -1, width_px=64, height_px=64)
    with pytest.raises(DataError, match="num_classes is 50"):
        class_names(50)


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Nothing of the user's is overwritten; an empty folder is accepted."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("keep")
    with pytest.raises(ArtifactError, match="give a new or an empty folder"):
        write_showroom(full, TINY)
    assert read_tree(tmp_path) == {"full/mine.txt": b"keep"}
    (tmp_path / "empty").mkdir()
    assert write_showroom(tmp_path / "empty", TINY).num_test == 2


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    """If it stops half-way, neither the folder nor its partial twin remains."""

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_showroom(tmp_path / "half", TINY, stop)
    assert list(tmp_path.iterdir()) == []
