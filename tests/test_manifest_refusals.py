"""Laws of refusal: a data folder, a list or a saved manifest that cannot be trusted is named, with what to do."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from folders import NFC, NFD, make_data, make_tricky_data, write_photo
from hectocar.config.schema import DataConfig
from hectocar.dataset.manifest import Manifest, find_photos, load_manifest, scan_photos
from hectocar.errors import ArtifactError, DataError


def columns(manifest: Manifest) -> dict[str, Any]:
    """All of a manifest in plain values, which compare."""
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(manifest).items()}


def test_parquet_round_trip(tmp_path: Path) -> None:
    """What is loaded is what was saved, Korean paths, reasons and numbers included."""
    manifest, _ = scan_photos(make_tricky_data(tmp_path), DataConfig())
    manifest.save(tmp_path / "manifest.parquet")
    assert columns(load_manifest(tmp_path / "manifest.parquet")) == columns(manifest)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("class_name", "its rows were changed after it was written"),
        ("image_id", "of image_id '.*x'; expected the file below the data folder"),
        ("path", "path is '.*x' of image_id '.*'; expected the file below the data folder"),
        ("sha1", "sha1 '.*x'; expected .* 40 digits"),
        ("status", "status is 'usedx', .*expected one of used, damaged, duplicate, excluded"),
    ],
)
def test_a_tampered_table_is_refused(tmp_path: Path, column: str, said: str) -> None:
    """A row that was edited after the scan no longer says what the photographs are; what cannot be is named."""
    path = tmp_path / "manifest.parquet"
    scan_photos(make_data(tmp_path), DataConfig())[0].save(path)
    table = pq.read_table(path)
    values = table.column(column).to_pylist()
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array([f"{values[0]}x", *values[1:]])), path)
    with pytest.raises(ArtifactError, match=rf"{said}.*; make the run again"):
        load_manifest(path)


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    """A missing, cut or foreign file is an ArtifactError with its path."""
    path = tmp_path / "manifest.parquet"
    scan_photos(make_data(tmp_path), DataConfig())[0].save(path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"not parquet"):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"manifest\.parquet: not a readable manifest"):
            load_manifest(path)
    pq.write_table(pa.table({"image_id": ["a"]}), path)
    with pytest.raises(ArtifactError, match=r"manifest\.parquet: not a readable manifest"):
        load_manifest(path)
    with pytest.raises(ArtifactError, match=r"none\.parquet: not a readable manifest"):
        load_manifest(tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"noise\.csv cannot be read: No such file"),
        ("name\nx.jpg\n", r"noise\.csv: column file is not there once"),
        ("kind,file\nnoise\n", r"noise\.csv: not 2 cells in line 2"),
    ],
)
def test_a_wrong_exclusion_list_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    """A list that cannot be used stops the scan: photographs that a person excluded must not slip in."""
    data = make_data(tmp_path)
    if text is not None:
        (data / "noise.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        scan_photos(data, DataConfig(exclude=(str(data / "noise.csv"),)))
    with pytest.raises(
        DataError, match="contest:noise_see is no list of the contest; allowed: contest:noise_seed, contest:noise_c"
    ):
        scan_photos(data, DataConfig(exclude=("contest:noise_see",)))


def test_a_class_without_a_usable_photograph_is_refused(tmp_path: Path) -> None:
    """The network cannot learn a class that it is never shown; the class is named. An equivalent name may lend its own."""
    data = make_data(tmp_path)
    (data / "train/K7").mkdir()
    (data / "train/K7/a.jpg").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"no usable photograph in 1 classes, first 'K7'; add some or remove the folder"):
        scan_photos(data, DataConfig())
    (data / "equivalent_classes.csv").write_text("class_a,class_b\nK7,K5\n")
    assert scan_photos(data, DataConfig())[1].members == (("K5", "K7"), (NFC,))


def test_what_is_no_data_folder_is_refused(tmp_path: Path) -> None:
    """The message shows the layout that is expected."""
    with pytest.raises(DataError, match=r"no such folder; expected train/<class>/\*\.jpg in it"):
        find_photos(tmp_path / "none")
    with pytest.raises(DataError, match="0 class folders with photographs; needed: two or more"):
        find_photos(tmp_path)
    write_photo(tmp_path / "K5" / "a.jpg")
    with pytest.raises(DataError, match="1 class folders with photographs; needed: two or more"):
        find_photos(tmp_path)


def test_two_files_of_one_id_are_refused(tmp_path: Path) -> None:
    """Names that differ in Unicode form only would be one id for two photographs."""
    data = make_data(tmp_path)
    for form in (NFC, NFD):
        write_photo(data / "train/K5" / f"{form}.jpg")
    with pytest.raises(DataError, match=rf"train/K5/{NFC}\.jpg: two files whose names differ only in Unicode form"):
        find_photos(data)


def test_two_folders_of_one_class_name_are_refused(tmp_path: Path) -> None:
    """Two class folders that look alike are a mistake of copying, to be named and not merged."""
    data = make_data(tmp_path)
    write_photo(data / "train" / NFD / "c.jpg", 7)
    with pytest.raises(DataError, match="Unicode form"):
        find_photos(data)


def test_rows_stand_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """Rows are sorted by image_id, whatever signs the class names hold."""
    write_photo(make_data(tmp_path) / "train/K5-2/a.jpg", 7)
    manifest, _ = scan_photos(tmp_path, DataConfig())
    assert list(manifest.image_id) == sorted(manifest.image_id)


def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    """A zip from a Korean Windows unpacks on Linux to names in CP949; the scan names such a file instead of failing later."""
    data = make_data(tmp_path)
    shutil.copy(data / "train/K5/a.jpg", data / "train/K5" / os.fsdecode("쏘나타.jpg".encode("cp949")))
    with pytest.raises(DataError, match="train/K5"):
        scan_photos(data, DataConfig())[0].digest()


def test_a_class_folder_without_photographs_is_named(tmp_path: Path) -> None:
    """A folder of unaccepted files would silently be no class, and the submission would lack its column."""
    data = make_data(tmp_path)
    empty = next(item for item in (data / "train").iterdir() if item.is_dir()).parent / "only_heic"
    empty.mkdir()
    (empty / "car.heic").write_bytes(b"x")
    with pytest.raises(DataError, match="1 class folders without photographs, first 'only_heic'"):
        scan_photos(data, DataConfig())
