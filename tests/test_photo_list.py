"""Laws of the list to predict: each photograph once, with the id of its table or its name, or a refusal that says why."""

import time
from pathlib import Path

import pytest

from folders import NFC, NFD, Told, write_photo
from hectocar.dataset.photo_list import find_photo_list
from hectocar.errors import DataError


def table(folder: Path, *paths: str, name: str = "test.csv") -> Path:
    rows = "".join(f"T_{k},{path}\n" for k, path in enumerate(paths))
    (folder / name).write_text(f"ID,img_path\n{rows}", encoding="utf-8")
    return folder / name


def test_a_folder_gives_its_photographs_and_says_what_it_left_out(tmp_path: Path) -> None:
    """The finder's rules: hidden files are no rows of a submission. Ids are the names without suffix while those are unique."""
    for name in ("p0.jpg", "sub/p1.jfif", "._p0.jpg", ".ipynb_checkpoints/p0.jpg", "@eaDir/p1.jpg", "list.txt"):
        write_photo(tmp_path / name)
    told = Told()
    photos = find_photo_list([tmp_path], progress=told)
    assert photos.ids == ("p0", "p1")
    assert told.notes == [
        "3 left out, hidden, or kept by a system or a program: ._p0.jpg, .ipynb_checkpoints/, @eaDir/",
        "1 left out, not named like a photograph: list.txt",
    ]
    write_photo(tmp_path / "sub/p0.jpg")
    assert find_photo_list([tmp_path]).ids[0] == (tmp_path / "p0.jpg").as_posix()


def test_a_table_of_windows_or_of_a_mac_finds_its_photographs(tmp_path: Path) -> None:
    """Back-slashes, and folders or files in the other Unicode form."""
    write_photo(tmp_path / "test" / NFD / f"{NFC}.jpg")
    for path in (f"test\\{NFC}\\{NFC}.jpg", f".\\test\\{NFD}\\{NFD}.jpg", f"./test/{NFC}/{NFD}.jpg"):
        photos = find_photo_list([table(tmp_path, path)])
        assert photos.files[0].is_file()
        assert photos.ids == ("T_0",)


def test_a_table_without_photographs_is_refused(tmp_path: Path) -> None:
    """Rows that are missing are named later, one by one; where all are, the table or its place is wrong."""
    write_photo(tmp_path / "a.jpg")
    assert len(find_photo_list([table(tmp_path, "a.jpg", "gone.jpg")]).files) == 2
    with pytest.raises(DataError, match=r"none of its 1 photographs exists, first .*gone\.jpg; put them beside the table"):
        find_photo_list([table(tmp_path, "gone.jpg")])


def test_inputs_that_are_nothing_to_predict_are_refused(tmp_path: Path) -> None:
    """The message names the input and what is allowed."""
    write_photo(tmp_path / "a.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.csv").mkdir()
    write_photo(tmp_path / "folder.csv" / "in.jpg")
    assert find_photo_list([tmp_path / "folder.csv"]).ids == ("in",)
    for inputs, message in (
        (["none.jpg"], r"none\.jpg: no such file or folder; allowed: a csv"),
        (["empty"], r"empty: no photographs in it; accepted names end in \.jpg"),
        (["a.jpg", "a.jpg"], r"two files whose names differ only in Unicode form|given twice"),
        (["a.jpg", table(tmp_path, "a.jpg").name], r"test\.csv: a table among other inputs"),
        (["x" * 300], r"File name too long"),
    ):
        with pytest.raises(DataError, match=message):
            find_photo_list([tmp_path / name for name in inputs])


def test_a_long_table_of_the_other_form_takes_seconds(tmp_path: Path) -> None:
    """2,000 rows composed over a disk decomposed: each folder is listed once, not once a row (which took 10 s)."""
    (tmp_path / NFD).mkdir()
    names = [f"{NFD}_{k}.jpg" for k in range(2000)]
    for name in names:
        (tmp_path / NFD / name).touch()
    start = time.process_time()
    photos = find_photo_list([table(tmp_path, *(f"{NFC}/{NFC}_{k}.jpg" for k in range(2000)))])
    assert time.process_time() - start < 2
    assert [file.name for file in photos.files] == names
