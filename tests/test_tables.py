"""The sample and the test table are read strictly, and names are compared in a way that a Korean Mac user survives."""

import unicodedata
from pathlib import Path

import pytest

from hectocar import tables
from hectocar.dataset.photo_list import read_test_table
from hectocar.errors import DataError
from hectocar.scoring import sample_form as forms

SAMPLE_BYTES = "\ufeffID,쏘나타_2012,X5,Audi_TT\r\nT_0,0,0,0\r\nT_1,0,0,0\r\nT_2,0,0,0\r\n".encode()


def written(folder: Path, data: bytes | str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_the_sample_is_read_with_or_without_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    for data in (SAMPLE_BYTES, SAMPLE_BYTES[3:], SAMPLE_BYTES.replace(b"\r\n", b"\n"), SAMPLE_BYTES + b"\r\n\r\n"):
        form = forms.read_sample(written(tmp_path, data))
        assert (form.ids, form.columns) == (("T_0", "T_1", "T_2"), ("쏘나타_2012", "X5", "Audi_TT"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has no header"),
        (b"ID,a\r\n", "has no rows below its header"),
        (b"id,a\nT,0\n", "begins 'id,a'; allowed: 'ID'"),
        (b"ID\nT\n", "allowed: 'ID' and then the class names"),
        (b"ID,a,a\nT,0,0\n", r"class column empty or repeated: 'a' \(line 1\)"),
        (b"ID,a,\nT,0,0\n", r"class column empty or repeated: '' \(line 1\)"),
        (f"ID,가,{unicodedata.normalize('NFD', '가')}\nT,0,0\n".encode(), "class column empty or repeated"),
        (b"ID,a\nT,0\nT,0\n", r"ID empty or repeated: 'T' \(line 3\)"),
        (b"ID,a\nT,0\nU\n", "line 3 has 1 cells; allowed: 2"),
        ("ID,a\nT,0\n한,0\n".encode("cp949"), "line 3: not UTF-8 text; save it as 'CSV UTF-8'"),
        (b'ID,a\n"T,0\n', "line 2: unexpected end of data"),
    ],
)
def test_a_broken_sample_is_refused_with_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        forms.read_sample(written(tmp_path, data))
    with pytest.raises(DataError, match=r"nowhere\.csv cannot be read: No such file"):
        forms.read_sample(tmp_path / "nowhere.csv")


def test_the_test_table_gives_paths_relative_to_its_folder(tmp_path: Path) -> None:
    table = read_test_table(written(tmp_path, "\ufeffnote,img_path,ID\r\n,./test/T_0.jpg,T_0\r\n,test/차.jpg,T_1\r\n"))
    assert (table.ids, table.img_paths) == (("T_0", "T_1"), ("test/T_0.jpg", "test/차.jpg"))


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a.jpg", "test/../../a.jpg", "C:\\a.jpg", "test\\..\\a.jpg", "\\\\host\\a\\b", "."]
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(
        DataError, match=r"leaves the folder of the table in line 3: .*; allowed: a relative path without '\.\.'"
    ):
        read_test_table(written(tmp_path, f"ID,img_path\nT_0,a.jpg\nT_1,{path}\n"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("ID,path\nT,a\n", "column img_path is not there once; the header is 'ID,path'; allowed: ID,img_path"),
        ("ID,img_path\n", "no rows below its header"),
        ("ID,img_path\nT,\n", "empty cell in line 2, column img_path"),
        ("ID,img_path\nT,a\nT,b\n", r"ID empty or repeated: 'T' \(line 3\)"),
        ("ID,img_path\nT\n", "not 2 cells in line 2"),
        ("ID,img_path\n" + "T,a\n" * 9, r"\.\.\. \(8 in all\)"),
    ],
)
def test_a_broken_test_table_is_refused(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_test_table(written(tmp_path, data))


def test_a_bad_byte_far_into_a_large_table_is_found_on_its_line(tmp_path: Path) -> None:
    """The text is decoded piece by piece; the line must not be that of the piece."""
    lines = [f"T_{row},0".encode() for row in range(20_000)]
    lines[15_000] += b"\xff"
    with pytest.raises(DataError, match="line 15002: not UTF-8"):
        forms.read_sample(written(tmp_path, b"ID,a\n" + b"\n".join(lines)))


def test_names_that_differ_only_in_unicode_form_are_the_same() -> None:
    names = ["쏘나타", "아반떼"]
    decomposed = [unicodedata.normalize("NFD", name) for name in reversed(names)]
    assert tables.name_problems("names", decomposed, names, "the list") == []


def test_the_nearest_valid_name_is_given_in_its_own_spelling() -> None:
    valid = ["쏘나타_2012", unicodedata.normalize("NFD", "아반떼_2012"), "X5"]
    text = tables.with_nearest(["아반테_2012", "zzz"], valid)
    assert text == f"'아반테_2012' (nearest: {valid[1]!r}), 'zzz'"


def test_long_lists_are_cut_and_counted() -> None:
    assert tables.listed(["a", "b", "c", "d", "e"]) == "a, b, c, d, e"
    assert tables.listed(["a", "b", "c", "d", "e", "f", "g"]) == "a, b, c, d, e, ... (7 in all)"
