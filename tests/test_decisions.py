"""Laws of the decisions: what a person writes is obeyed, a mistake is named, and no group stands on both sides of a fold."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folders import NFC, NFD, make_data, write_photo
from hectocar.codec import encode, write_sealed
from hectocar.config.schema import DataConfig
from hectocar.dataset.decisions import (
    DROP,
    GROUP,
    KEEP,
    KINDS,
    RELABEL,
    AuditFacts,
    Decision,
    digest_photos,
    find_shift,
    group_photos,
    judge_photos,
    read_audit,
    read_decisions,
    write_decisions,
)
from hectocar.dataset.folds import UNUSED_FOLD, assign_folds, deal_folds
from hectocar.dataset.manifest import DUPLICATE, EXCLUDED, USED, scan_photos
from hectocar.disk.artifacts import hash_file, write_json
from hectocar.errors import ArtifactError, DataError, HectocarError
from hectocar.photos.shift import PhotoShift
from hectocar.progress import NoProgress


def write_audit(folder: Path, data: Path, decisions: list[Decision], shift: PhotoShift | None = None) -> Path:
    """The part of an audit's folder that training reads."""
    manifest, _ = scan_photos(data, DataConfig())
    write_decisions(folder / "decisions.csv", decisions)
    shift_sha256 = ""
    if shift:
        write_json(folder / "shift.json", encode(shift))
        shift_sha256 = hash_file(folder / "shift.json")
    digest = digest_photos(manifest.image_id, manifest.sha1)
    write_sealed(folder / "audit.json", AuditFacts("now", {}, "data", 1, 0, digest, "", shift_sha256, {}, None, ()))
    return folder


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """A row survives the disk; rows are sorted by kind and falling score."""
    rows = [
        Decision("train/K5/a.jpg", "wrong_label", RELABEL, score=0.5, reason='says "K5", is not', label=NFC),
        Decision("train/K5/b.jpg", "wrong_label", KEEP, score=0.9),
        Decision(f"train/{NFC}/a.png", "unusable", DROP, "d1"),
    ]
    write_decisions(tmp_path / "d.csv", rows)
    read = read_decisions(tmp_path / "d.csv")
    assert [(row.file, row.decision, row.group, row.label) for row in read] == [
        (f"train/{NFC}/a.png", DROP, "d1", ""),
        ("train/K5/b.jpg", KEEP, "", ""),
        ("train/K5/a.jpg", RELABEL, "", NFC),
    ]


def test_a_table_edited_by_hand_is_read(tmp_path: Path) -> None:
    """Two columns are enough, letters may be large, names may come from a Mac."""
    (tmp_path / "d.csv").write_text(f"\ufefffile,decision\r\ntrain/{NFD}/a.png, Drop\r\n", encoding="utf-8")
    (row,) = read_decisions(tmp_path / "d.csv")
    assert (row.file, row.decision) == (f"train/{NFC}/a.png", DROP)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("train/K5/a.jpg,delete,,", "line 2: decision is 'delete'; allowed: keep, drop, relabel, group"),
        ("train/K5/a.jpg,relabel,,", "line 2: relabel needs the name of a class"),
        ("train/K5/a.jpg,group,,", "line 2: group needs a name"),
        (",drop,,", "empty cell"),
    ],
)
def test_a_mistake_in_the_table_is_named(tmp_path: Path, cells: str, message: str) -> None:
    """Line, value and what is allowed."""
    (tmp_path / "d.csv").write_text(f"file,decision,group,label\n{cells}\n")
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        read_decisions(tmp_path / "d.csv")


def test_training_obeys_every_decision(tmp_path: Path) -> None:
    """Dropped rows are out, relabelled ones change class, kept duplicates stay, groups share a number."""
    data = make_data(tmp_path / "data")
    (data / "train/K5/c.jpg").write_bytes((data / "train/K5/a.jpg").read_bytes())
    write_photo(data / "train/K5/d.jpg", 8)
    decisions = [
        Decision("train/K5/b.JPG", "wrong_label", RELABEL, label=NFC, reason="looks like it"),
        Decision(f"train/{NFC}/b.jpeg", "no_car", DROP, reason="a wall"),
        Decision("train/K5/a.jpg", "near_duplicate", GROUP, "mine"),
        Decision(f"train/{NFC}/a.png", "near_duplicate", GROUP, "mine"),
        Decision("test/TEST_0.jpg", "unusable", KEEP),
    ]
    config = DataConfig(audit=str(write_audit(tmp_path / "audit", data, decisions)), num_folds=2)
    manifest, classes = scan_photos(data, config)
    rows = dict(zip(manifest.image_id, zip(manifest.status, manifest.class_name, strict=True), strict=True))
    assert rows == {
        "train/K5/a.jpg": (USED, "K5"),
        "train/K5/b.JPG": (USED, NFC),
        "train/K5/c.jpg": (USED, "K5"),  # an exact duplicate that no row drops is kept
        "train/K5/d.jpg": (USED, "K5"),
        f"train/{NFC}/a.png": (USED, NFC),
        f"train/{NFC}/b.jpeg": (EXCLUDED, NFC),
    }
    assert ("train/K5/b.JPG", f"relabelled to {NFC}") in manifest.problems(USED)
    assert manifest.problems(EXCLUDED) == [(f"train/{NFC}/b.jpeg", "no_car: a wall")]
    folds = deal_folds(manifest, classes, config, NoProgress())
    fold = dict(zip(folds.image_id, folds.fold.tolist(), strict=True))
    assert fold["train/K5/a.jpg"] == fold["train/K5/c.jpg"] == fold[f"train/{NFC}/a.png"] != fold["train/K5/b.JPG"]
    alone = deal_folds(manifest, classes, DataConfig(num_folds=2, group_duplicates=False), NoProgress())
    assert len(set(alone.group.tolist())) == len(manifest)


def test_a_dropped_copy_counts_as_a_duplicate(tmp_path: Path) -> None:
    """The table says why a photograph is out."""
    data = make_data(tmp_path / "data")
    rows = [Decision("train/K5/a.jpg", "exact_duplicate", DROP, "d1", reason="same bytes")]
    manifest, _ = scan_photos(data, DataConfig(audit=str(write_audit(tmp_path / "audit", data, rows))))
    assert manifest.problems(DUPLICATE) == [("train/K5/a.jpg", "exact_duplicate: same bytes")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Decision("train/K5/zz.jpg", "no_car", DROP), "drop of a file that is no training photograph"),
        (Decision("train/K5/a.jpg", "wrong_label", RELABEL, label="K6"), "unknown class: 'K6' .nearest: 'K5'"),
    ],
)
def test_decisions_about_nothing_are_refused(tmp_path: Path, row: Decision, message: str) -> None:
    """A typing error in a name is not a decision that is silently lost."""
    data = make_data(tmp_path / "data")
    folder = write_audit(tmp_path / "audit", data, [row])
    with pytest.raises(DataError, match=message):
        scan_photos(data, DataConfig(audit=str(folder)))


def test_hundreds_of_mistakes_take_seconds() -> None:
    """Only the rows that are shown are compared with all 33,000 names; the others are counted."""
    ids = [f"train/class_{k % 400:03d}/photo_of_a_car_{k:05d}.jpg" for k in range(33_000)]
    rows = [Decision(f"train/class_000/no_{k}.jpg", "no_car", DROP) for k in range(500)]
    rows += [Decision(image_id, "wrong_label", RELABEL, label="class_4000") for image_id in ids[:20_000]]
    start = time.process_time()
    with pytest.raises(DataError, match=r"unknown class: 'class_4000' .*\n.*and 20490 more rows"):
        judge_photos(rows, ids, [f"class_{k:03d}" for k in range(400)], "decisions")
    assert time.process_time() - start < 5


def test_two_relabels_must_agree() -> None:
    """One photograph has one class."""
    rows = [Decision("a", "wrong_label", RELABEL, label=name) for name in ("K5", "K7")]
    with pytest.raises(DataError, match="relabelled to 'K5' and to 'K7'"):
        judge_photos(rows, ["a"], ["K5", "K7"], "decisions")


def test_drop_wins_over_relabel() -> None:
    """The strictest row decides."""
    rows = [Decision("a", "wrong_label", RELABEL, label="K5"), Decision("a", "no_car", DROP, reason="wall")]
    assert judge_photos(rows, ["a"], ["K5"], "decisions").dropped == {"a": ("no_car", "wall")}


def test_an_audit_of_other_photographs_is_refused(tmp_path: Path) -> None:
    """One byte more in one photograph, and the decisions are about something else."""
    data = make_data(tmp_path / "data")
    config = DataConfig(audit=str(write_audit(tmp_path / "audit", data, [])))
    scan_photos(data, config)
    with (data / "train/K5/a.jpg").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArtifactError, match=r"of other photographs.*hectocar audit DATA --out"):
        scan_photos(data, config)


def test_a_folder_that_is_no_audit_is_refused(tmp_path: Path) -> None:
    """The message says which command makes one."""
    with pytest.raises(ArtifactError, match=r"not an audit.*hectocar audit DATA --out DIR"):
        read_audit(tmp_path)
    write_decisions(tmp_path / "decisions.csv", [])
    (tmp_path / "audit.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"audit\.json: the content is \[\]; expected a mapping with made"):
        read_audit(tmp_path)


def test_the_shift_comes_from_the_audit_a_file_or_nowhere(tmp_path: Path) -> None:
    """data.shift chooses; a damaged file is refused."""
    data = make_data(tmp_path / "data")
    shift = PhotoShift(gain=0.7, offset=-10.0, gamma=1.0, jpeg_quality=60)
    audit = str(write_audit(tmp_path / "audit", data, [], shift))
    file = str(tmp_path / "audit" / "shift.json")
    assert find_shift(DataConfig(audit=audit)) == shift
    assert find_shift(DataConfig(shift=file)) == shift
    assert find_shift(DataConfig(audit=audit, shift="none")) is None
    assert find_shift(DataConfig()) is None
    write_json(Path(file), {"gain": "a lot"})
    with pytest.raises(HectocarError):
        find_shift(DataConfig(shift=file))


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 4), min_size=12, max_size=60),
    data=st.data(),
    num_folds=st.integers(2, 5),
)
def test_no_group_is_ever_split(labels: list[int], data: st.DataObject, num_folds: int) -> None:
    """Whatever groups the rows make, directly or in a chain, all their photographs lie in one fold."""
    ids = [f"train/{label}/{k}.jpg" for k, label in enumerate(labels)]
    sha1 = [data.draw(st.sampled_from(["x", "y", str(k), str(k)])) for k in range(len(ids))]
    rows = [
        Decision(data.draw(st.sampled_from(ids)), data.draw(st.sampled_from(KINDS)), KEEP, data.draw(st.sampled_from("abc")))
        for _ in range(data.draw(st.integers(0, 12)))
    ]
    groups = group_photos(sha1, ids, rows, [sha1])
    group_of = dict(zip(ids, groups.tolist(), strict=True))
    for one in rows:
        for other in rows:
            assert one.group != other.group or group_of[one.file] == group_of[other.file]
    used = np.arange(len(ids))
    try:
        fold_N = assign_folds(np.array(labels), groups, used, num_folds=num_folds, seed=1)
    except DataError:
        assert len(set(groups.tolist())) < num_folds
        return
    assert UNUSED_FOLD not in fold_N
    for group in set(groups.tolist()):
        assert len(set(fold_N[groups == group].tolist())) == 1
