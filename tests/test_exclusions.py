"""Laws of exclusion lists: a row means one photograph or nothing, and whoever wrote the list is told what it did."""

import time
import unicodedata
from pathlib import Path

import pytest

from folders import NFC, NFD, Told, write_photo
from hectocar.config.schema import DataConfig
from hectocar.dataset.exclusions import ExclusionList, find_excluded
from hectocar.dataset.manifest import EXCLUDED, scan_photos
from hectocar.errors import DataError
from hectocar.progress import NoProgress

IDS = ("train/audi/p1.jpg", "train/audi/p2.jpg", "train/bmw/p1.jpg", f"train/{NFC}/p3.jpg")
MINE = "mine.csv"


def excluded(*rows: str, ids: tuple[str, ...] = IDS, source: str = MINE) -> list[str]:
    return list(find_excluded([ExclusionList(source, rows)], ids, Path("/data"), NoProgress()))


@pytest.mark.parametrize("top", ["train/", ""])
@pytest.mark.parametrize("row", ["train/audi/p1.jpg", "audi/p1.jpg", "./audi/p1.jpg", "audi\\p1.jpg", "/data/{top}audi/p1.jpg"])
def test_a_path_excludes_that_photograph_only(top: str, row: str) -> None:
    """With or without the train folder, absolute, or as Windows writes it: of three files p1.jpg one is left out."""
    ids = tuple(f"{top}{name}/p1.jpg" for name in ("audi", "bmw", "kia"))
    assert excluded(row.format(top=top), ids=ids) == [f"{top}audi/p1.jpg"]


def test_a_bare_name_counts_where_it_is_unique() -> None:
    """In either Unicode form; of several photographs of one name none is left out by it."""
    assert excluded("p2.jpg", f"{NFD}/p3.jpg") == ["train/audi/p2.jpg", f"train/{NFC}/p3.jpg"]
    with pytest.raises(DataError, match=r"1 rows name several photographs: 'p1.jpg' \(train/audi/p1.jpg, train/bmw/p1.jpg\)"):
        excluded("p2.jpg", "p1.jpg")


@pytest.mark.parametrize("row", ["audi/p3.jpg", "elsewhere/p2.jpg", "p4.jpg", "../train/audi/p1.jpg", "test/p1.jpg"])
def test_an_unknown_row_of_a_user_is_an_error_with_the_nearest(row: str) -> None:
    """A photograph that a person excluded must not slip in by a slip of the pen, nor another one go in its place."""
    with pytest.raises(DataError, match=r"data\.exclude mine\.csv.*\n.*1 rows name no training photograph: .*nearest: 'train/"):
        excluded("audi/p2.jpg", row)


def test_the_contest_lists_bind_only_where_their_files_are(tmp_path: Path) -> None:
    """A stranger has none of the contest's files: the list passes, and says how many of its rows meant nothing."""
    name = "5시리즈_G60_2024_2025_0010.jpg"
    for file in ("K5/a.jpg", f"K5/{unicodedata.normalize('NFD', name)}", "K7/a.jpg"):
        write_photo(tmp_path / "train" / file, len(file))
    told = Told()
    manifest, _ = scan_photos(tmp_path, DataConfig(exclude=("contest:noise_seed",)), told)
    assert manifest.problems(EXCLUDED) == [(f"train/K5/{name}", "listed in contest:noise_seed")]
    assert told.notes == [
        "data.exclude contest:noise_seed: 1 of its 75 rows leave a photograph out; 74 rows name no photograph here"
    ]
    ids = (f"A/{name}", f"B/{name}")
    assert excluded(name, ids=ids, source="contest:noise_seed") == []


def test_long_lists_take_seconds() -> None:
    """20,000 rows against 33,000 photographs, with 500 mistakes of which five are shown: linear but for those."""
    ids = tuple(f"train/class_{k % 400:03d}/photo_of_a_car_{k:05d}.jpg" for k in range(33_000))
    start = time.process_time()
    assert len(excluded(*ids[:20_000], ids=ids)) == 20_000
    with pytest.raises(DataError, match=r"500 rows name no training photograph.*\(500 in all\)"):
        excluded(*ids[:20_000], *(f"class_{k:03d}/no_{k}.jpg" for k in range(500)), ids=ids)
    assert time.process_time() - start < 3
