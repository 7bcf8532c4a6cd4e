"""Laws of the layout: what is a class, what is the test set and what is neither is decided by one rule, and said."""

from pathlib import Path

import pytest

from folders import Told, make_data, write_photo
from hectocar.auditing.audit import scan_train_and_test
from hectocar.config.schema import DataConfig
from hectocar.dataset.layout import find_photos, find_test_photos
from hectocar.dataset.manifest import scan_photos
from hectocar.errors import DataError
from hectocar.progress import NoProgress


def folder_of(data: Path, *classes: str, count: int = 2) -> Path:
    for seed, name in enumerate(classes):
        for number in range(count):
            write_photo(data / name / f"p{number}.jpg", 10 * seed + number)
    return data


def classes_of(data: Path, told: Told | None = None) -> list[str]:
    return sorted({name for name, _ in find_photos(data, told)})


def test_a_test_folder_beside_classes_is_the_test_set(tmp_path: Path) -> None:
    """DATA/{audi,bmw,test}: test is no class, audit takes it as the test set, and one line says so."""
    for name in ("test", "Test"):
        data, told = folder_of(tmp_path / name, "audi", "bmw", name), Told()
        assert classes_of(data, told) == ["audi", "bmw"]
        (line,) = told.notes
        assert f"{data / name} is taken as the test set, not as a class" in line
        assert find_test_photos(data, None, NoProgress()) == [f"{name}/p0.jpg", f"{name}/p1.jpg"]
    with_train = folder_of(tmp_path / "with", "train/audi", "train/test", "test")
    assert classes_of(with_train) == ["audi", "test"]  # beside a train folder the name is free
    with pytest.raises(DataError, match=r"1 class folders with photographs; needed: two or more.*taken as the test set"):
        find_photos(folder_of(tmp_path / "one", "audi", "test"))


def test_results_beside_the_classes_are_no_classes(tmp_path: Path) -> None:
    """An audit, a run, a bundle inside DATA is passed over with one line, also below train/."""
    data = folder_of(tmp_path, "audi", "bmw")
    for name, marker in (("AUDIT", "audit.json"), ("RUN", "config.json"), ("B", "bundle.json"), ("s.csv.parts", "parts.json")):
        write_photo(data / name / "report/plot.png")
        (data / name / marker).write_text("{}")
    told = Told()
    assert classes_of(data, told) == ["audi", "bmw"]
    assert "1 left out, a result of hectocar, it holds audit.json: AUDIT/" in told.notes
    below = folder_of(tmp_path / "below", "train/audi", "train/bmw")
    (below / "train/AUDIT").mkdir()
    (below / "train/AUDIT/audit.json").write_text("{}")
    assert classes_of(below) == ["audi", "bmw"]


def test_folders_below_a_class_are_of_the_class(tmp_path: Path) -> None:
    """At any depth, and it is said how many; ids are paths, so equal names in two of them are two photographs."""
    data = folder_of(tmp_path, "train/audi", "train/audi/rear/left", "train/bmw")
    told = Told()
    manifest, _ = scan_photos(data, DataConfig(), told)
    assert manifest.image_id[2:4] == ("train/audi/rear/left/p0.jpg", "train/audi/rear/left/p1.jpg")
    assert manifest.class_name == ("audi",) * 4 + ("bmw",) * 2
    assert "2 photographs in folders below a class folder count as that class, first train/audi/rear/left/p0.jpg" in told.notes


def test_what_is_beside_the_classes_is_named(tmp_path: Path) -> None:
    """Photographs and folders of no class are named; tables, which belong there, are not."""
    data = folder_of(tmp_path, "train/audi", "train/bmw", "test", "valid")
    for name in ("loose.jpg", "train/loose.jpg", "test.csv", "sample_submission.csv", "README.md", ".git/config"):
        write_photo(data / name)
    told = Told()
    assert classes_of(data, told) == ["audi", "bmw"]
    assert told.notes == [
        "2 left out, a photograph beside the class folders, of no class: loose.jpg, train/loose.jpg",
        "1 left out, hidden, or kept by a system or a program: .git/",
        "1 left out, beside train/, where the classes are looked for: valid/",
    ]


def test_a_class_named_train_is_said_to_be_the_trouble(tmp_path: Path) -> None:
    """The message names the folder whose name has another meaning, and both ways out."""
    with pytest.raises(DataError) as caught:
        find_photos(folder_of(tmp_path / "a", "train", "audi", "bmw"))
    assert "train: 2 photographs and no class folders in it" in str(caught.value)
    assert "a folder named train is the training set and not a class like 'audi', 'bmw' beside it: rename it" in str(
        caught.value
    )
    with pytest.raises(DataError, match=r"no class folders in it; put them into folders, one a class: train/<class>/\*\.jpg"):
        find_photos(folder_of(tmp_path / "b", "train"))


def test_a_linked_data_folder_and_a_test_folder_elsewhere(tmp_path: Path) -> None:
    """Links are resolved before the way from one to the other is taken, so every test photograph is found."""
    folder_of(tmp_path / "disk/x/cars", "train/audi", "train/bmw")
    other = folder_of(tmp_path, "other") / "other"
    link = tmp_path / "cars"
    link.symlink_to(tmp_path / "disk/x/cars")
    (tmp_path / "tests").symlink_to(other)
    for test in (other, tmp_path / "tests"):
        scan, _ = scan_train_and_test(link, test, DataConfig(), NoProgress())
        assert [row.problem for row in scan.rows] == [""] * 6
        assert scan.image_id[4:] == ("../../../other/p0.jpg", "../../../other/p1.jpg")


@pytest.mark.parametrize(("part", "kind"), [("train/audi", "training"), ("test", "test")])
def test_a_part_of_which_nothing_can_be_read_is_no_success(tmp_path: Path, part: str, kind: str) -> None:
    """An audit that could look at no test photograph, or at no training photograph, says so instead of finding nothing."""
    data = folder_of(tmp_path, "train/audi", "train/bmw", "test")
    for file in data.glob("train/*/*.jpg" if kind == "training" else f"{part}/*.jpg"):
        file.write_bytes(b"damaged")
    with pytest.raises(DataError, match=rf"none of the \d {kind} photographs can be read, first {part}/p0\.jpg: not a photo"):
        scan_train_and_test(data, None, DataConfig(), NoProgress())


def test_a_named_test_folder_must_hold_photographs(tmp_path: Path) -> None:
    """A typing error in --test is not an empty test set; DATA without a test folder has none."""
    data = make_data(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no such folder"):
        find_test_photos(data, tmp_path / "none", NoProgress())
    with pytest.raises(DataError, match=r"no photographs below it; accepted names end in \.jpg"):
        find_test_photos(data, tmp_path / "empty", NoProgress())
    assert find_test_photos(data, None, NoProgress()) == []
