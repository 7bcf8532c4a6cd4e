"""Laws of the scan: each photograph keeps a row and a reason, names are NFC, and nothing on the user's disk changes."""

import csv
import dataclasses
import shutil
import unicodedata
from importlib import resources
from pathlib import Path

import pytest

from folders import NFC, NFD, Told, make_data, make_tricky_data, write_photo
from hectocar.config.schema import DataConfig
from hectocar.dataset.manifest import DAMAGED, DUPLICATE, EXCLUDED, USED, Manifest, scan_photos

NOISY = "5시리즈_G60_2024_2025_0010.jpg"  # in the contest's list


def statuses(manifest: Manifest) -> dict[str, str]:
    return dict(zip(manifest.image_id, manifest.status, strict=True))


@pytest.mark.parametrize("top", ["train", ""])
def test_both_layouts_give_rows_relative_to_the_folder(tmp_path: Path, top: str) -> None:
    """train/<class>/* and <class>/* are read alike; ids stay the same wherever the folder is moved to, and so the digest."""
    data = make_data(tmp_path / "here", top)
    for stray in ("notes.txt", "K5/list.csv", "K5/.hidden.jpg", ".cache/a.jpg"):
        write_photo(data / top / stray)
    if top:
        write_photo(data / "test" / "TEST_0.jpg")
    manifest, classes = scan_photos(data, DataConfig())
    prefix = f"{top}/" if top else ""
    assert manifest.image_id == tuple(prefix + file for file in ("K5/a.jpg", "K5/b.JPG", f"{NFC}/a.png", f"{NFC}/b.jpeg"))
    assert classes.names == ("K5", NFC)
    assert manifest.labels(classes).tolist() == [0, 0, 1, 1]
    assert manifest.status == (USED,) * 4
    assert (set(manifest.width_px), set(manifest.height_px)) == ({16}, {12})
    shutil.copytree(data, tmp_path / "there")
    moved, _ = scan_photos(tmp_path / "there", DataConfig(num_workers=3))
    assert (moved.image_id, moved.digest()) == (manifest.image_id, manifest.digest())
    assert moved.root == (tmp_path / "there").resolve()


def test_each_photograph_keeps_its_row_and_its_reason(tmp_path: Path) -> None:
    """Damaged, duplicate (in its class only) and excluded files stand in the table with the reason; the rest is used."""
    data = make_tricky_data(tmp_path)
    listed = str(data / "noise.csv")
    told = Told()
    manifest, _ = scan_photos(data, DataConfig(exclude=(listed,)), told)
    assert (told.total, told.done) == (9, 9)
    assert told.notes == [f"data.exclude {listed}: 1 of its 1 rows leave a photograph out"]
    unused = {image_id: status for image_id, status in statuses(manifest).items() if status != USED}
    expected = {"copy": DUPLICATE, "half": DAMAGED, "noisy": EXCLUDED, "text": DAMAGED}
    assert unused == {f"train/K5/{name}.jpg": status for name, status in expected.items()}
    assert manifest.problems(DUPLICATE) == [("train/K5/copy.jpg", "same bytes as a.jpg")]
    assert manifest.problems(EXCLUDED) == [("train/K5/noisy.jpg", f"listed in {listed}")]
    (_, half), (_, text) = manifest.problems(DAMAGED)
    assert half.startswith("damaged photograph: ")
    assert text.startswith("not a photograph: ")
    assert [manifest.image_id[row] for row in manifest.used()] == [i for i, s in statuses(manifest).items() if s == USED]
    kept, _ = scan_photos(data, DataConfig(drop_exact_duplicates=False))
    assert [image_id for image_id, status in statuses(kept).items() if status != USED] == [
        "train/K5/half.jpg",
        "train/K5/text.jpg",
    ]


def test_nothing_on_the_disk_changes(tmp_path: Path) -> None:
    """A scan reads: afterwards every file has the bytes, the permissions and the times that it had before."""

    def tree() -> dict[str, tuple[bytes, int, int]]:
        files = {path.as_posix(): (path, path.stat()) for path in sorted(data.rglob("*"))}
        return {name: (p.read_bytes() if p.is_file() else b"", s.st_mode, s.st_mtime_ns) for name, (p, s) in files.items()}

    data = make_tricky_data(tmp_path / "data")
    before = tree()
    manifest, _ = scan_photos(data, DataConfig(exclude=(str(data / "noise.csv"),)))
    manifest.save(tmp_path / "run" / "manifest.parquet")
    assert tree() == before


def test_nfd_names_get_nfc_ids_and_keep_their_path(tmp_path: Path) -> None:
    """A folder from a Mac has the ids of the same folder on Linux, and its files are found under the names they have."""
    composed, _ = scan_photos(make_data(tmp_path / "linux"), DataConfig())
    manifest, classes = scan_photos(make_data(tmp_path / "mac", name=NFD), DataConfig())
    assert (manifest.image_id, manifest.digest()) == (composed.image_id, composed.digest())
    assert classes.names == ("K5", NFC)
    assert manifest.path[2] == f"train/{NFD}/a.png" != manifest.image_id[2]
    assert all(file.is_file() for file in manifest.files())


def test_the_contest_list_excludes_by_name(tmp_path: Path) -> None:
    """contest:noise_seed comes with the package and knows its files in either Unicode form and in any folder."""
    data = make_data(tmp_path)
    write_photo(data / "train/K5" / unicodedata.normalize("NFD", NOISY), 5)
    manifest, _ = scan_photos(data, DataConfig(exclude=("contest:noise_seed",)))
    assert manifest.problems(EXCLUDED) == [(f"train/K5/{NOISY}", "listed in contest:noise_seed")]
    for name in ("noise_seed", "noise_consensus"):
        rows = list(csv.DictReader((resources.files("hectocar.contest") / f"{name}.csv").read_text("utf-8").splitlines()))
        assert len({row["file"] for row in rows}) == len(rows) > 60


def test_the_digest_follows_the_photographs(tmp_path: Path) -> None:
    """One more byte in one photograph, or another status, is another manifest; the same photographs are the same one."""
    data = make_data(tmp_path)
    digest = scan_photos(data, DataConfig())[0].digest()
    assert scan_photos(data, DataConfig())[0].digest() == digest
    with (data / "train/K5/a.jpg").open("ab") as file:
        file.write(b"\0")  # behind the picture: it decodes to the same pixels
    changed, _ = scan_photos(data, DataConfig())
    assert changed.status == (USED,) * 4
    assert changed.digest() != digest
    assert dataclasses.replace(changed, status=(EXCLUDED, *changed.status[1:])).digest() != changed.digest()


@pytest.mark.realdata
def test_real_photographs_are_all_found_and_the_damaged_named(shared: Path) -> None:
    """Of 6654 real files seven are damaged; each is named with a reason."""
    manifest, classes = scan_photos(shared / "data" / "cars196", DataConfig())
    assert (len(manifest), len(classes.names), classes.num_trained) == (6654, 201, 196)
    assert len(manifest.problems(DAMAGED)) == 7
    assert all(problem for _, problem in manifest.problems(DAMAGED))
