"""Laws of the finder: one set of rules for every command, only regular files, and what is left out is named with its reason."""

import os
import socket
from pathlib import Path
from typing import NoReturn

import pytest

from folders import NFC, NFD, Told, make_data, write_photo
from hectocar.auditing.audit import scan_train_and_test
from hectocar.config.schema import DataConfig
from hectocar.dataset import finder
from hectocar.dataset.finder import DiskSpelling, check_utf8, describe_left_out, find_below, photo_suffixes
from hectocar.dataset.layout import find_photos
from hectocar.dataset.photo_list import find_photo_list
from hectocar.errors import DataError
from hectocar.progress import NoProgress

HIDDEN = (
    "._p0.jpg",
    ".ipynb_checkpoints/p.jpg",
    "@eaDir/p.jpg",
    "__MACOSX/p.jpg",
    ".DS_Store",
    "$RECYCLE.BIN/p.jpg",
    "Thumbs.db",
)
CP949 = os.fsdecode("쏘나타.jpg".encode("cp949"))


def reasons(folder: Path) -> dict[str, str]:
    return {item.path: item.reason for item in find_below(folder).left_out}


def test_what_systems_leave_behind_is_no_photograph(tmp_path: Path) -> None:
    """Files and folders that macOS, Windows, Synology and Jupyter strew are left out, counted and named in one line."""
    for name in (*HIDDEN, "p0.jpg", "deep/er/p1.jfif", "deep/er/.hidden.png", "notes.txt", "car.cr2"):
        write_photo(tmp_path / name)
    found = find_below(tmp_path)
    assert found.photos == ("deep/er/p1.jfif", "p0.jpg")
    hidden, other = describe_left_out(found.left_out)
    assert hidden.startswith("8 left out, hidden, or kept by a system or a program: ")
    assert ".ipynb_checkpoints/" in hidden  # a folder counts as one, whatever is in it
    assert other == "2 left out, not named like a photograph: car.cr2, notes.txt"


def test_each_ending_is_read_or_said_to_be_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """.jfif is a JPEG; HEIC and AVIF are read where this Pillow decodes them, and named where it does not."""
    for suffix in ("jpg", "JFIF", "heic", "HEIF", "avif"):
        write_photo(tmp_path / f"p.{suffix}")
    monkeypatch.setattr(finder, "ACCEPTED_FORMATS", ("JPEG", "PNG"))
    assert find_below(tmp_path).photos == ("p.JFIF", "p.jpg")
    assert reasons(tmp_path) == {
        "p.HEIF": ".heif cannot be read by the Pillow that is installed; convert it to JPEG",
        "p.avif": ".avif cannot be read by the Pillow that is installed; convert it to JPEG",
        "p.heic": ".heic cannot be read by the Pillow that is installed; convert it to JPEG",
    }
    monkeypatch.setattr(finder, "ACCEPTED_FORMATS", ("JPEG", "HEIF", "AVIF"))
    assert len(find_below(tmp_path).photos) == 5
    assert {".heic", ".heif", ".avif", ".jfif"} < set(photo_suffixes())


def test_nothing_but_regular_files_is_opened(tmp_path: Path) -> None:
    """A FIFO, a socket, a link to an endless device and a link to nothing would hang or fill the memory: they are named."""
    write_photo(tmp_path / "p.jpg")
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        (here := Path.cwd(), os.chdir(tmp_path))  # a socket's path may have 107 bytes
        server.bind("socket.jpg")
        os.chdir(here)
        special, nothing = "no regular file (a FIFO, a socket or a device)", "a link to nothing"
        assert reasons(tmp_path) == {
            "fifo.jpg": special, "zero.jpg": special, "socket.jpg": special, "gone.jpg": nothing, "self.jpg": nothing,
        }  # fmt: skip
    assert find_below(tmp_path).photos == ("p.jpg",)
    for name in ("fifo.jpg", "zero.jpg"):
        with pytest.raises(DataError, match="no regular file"):
            find_photo_list([tmp_path / name])


def test_linked_files_and_folders_are_read_by_every_command(tmp_path: Path) -> None:
    """Links to photographs and to folders of them are followed by training, audit and predict alike."""
    store = tmp_path / "store"
    for number in range(4):
        write_photo(store / f"audi/{number}.jpg", number)
        write_photo(store / f"bmw/{number}.jpg", 10 + number)
    data = tmp_path / "data"
    (data / "train/audi").mkdir(parents=True)
    (data / "train/bmw").symlink_to(store / "bmw")
    (data / "train/audi/rear").symlink_to(store / "audi")
    (data / "train/audi/one.jpg").symlink_to(store / "audi/0.jpg")
    (data / "test").symlink_to(store)
    trained = [file.relative_to(data).as_posix() for _, file in find_photos(data)]
    assert trained == [f"train/audi/{name}" for name in ("one.jpg", *(f"rear/{k}.jpg" for k in range(4)))] + [
        f"train/bmw/{k}.jpg" for k in range(4)
    ]
    scan, class_name = scan_train_and_test(data, None, DataConfig(), NoProgress())
    test = [path for path, name in zip(scan.image_id, class_name, strict=True) if not name]
    assert test == [f"test/{c}/{k}.jpg" for c in ("audi", "bmw") for k in range(4)]
    assert [file.relative_to(data).as_posix() for file in find_photo_list([data / "test"]).files] == test
    assert not any(row.problem for row in scan.rows)


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    """A link back to a folder above is named, not walked for ever; many links to one folder read it once, as a real folder."""
    write_photo(tmp_path / "a/b/p.jpg")
    (tmp_path / "a/b/up").symlink_to("../..")
    (tmp_path / "a/b/above").symlink_to("../../..")
    (tmp_path / "a/0").symlink_to("b")
    for level in range(20):  # 2 ** 20 ways to the last one
        (tmp_path / f"w{level}").mkdir()
        for name in "xy":
            (tmp_path / f"w{level}/{name}").symlink_to(f"../w{level + 1}" if level < 19 else "../a")
    found = find_below(tmp_path)
    assert found.photos == ("a/b/p.jpg",)
    loops = [item.path for item in found.left_out if item.reason.startswith("a link to a folder above it")]
    assert {"a/b/up/", "a/b/above/", "a/0/"} < set(loops)
    (tmp_path / "data/train/loop").parent.mkdir(parents=True)
    (tmp_path / "data/train/loop").symlink_to("..")
    make_data(tmp_path / "data")
    told = Told()
    assert len(find_photos(tmp_path / "data", told)) == 4
    assert told.notes == ["1 left out, a link to a folder above it, or to one that was read already: train/loop/"]


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreadable folder is not an empty one: a class would silently lose its photographs."""
    data = make_data(tmp_path)
    real = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "K5":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"train/K5: the folder cannot be read \(Permission denied\)"):
        find_photos(data)
    with pytest.raises(DataError, match="Permission denied"):
        find_photo_list([data])


def test_names_that_are_no_utf8_are_refused_by_one_rule(tmp_path: Path) -> None:
    """Training, audit and predict refuse such a photograph with one message, escaped; what is left out is shown escaped."""
    data = make_data(tmp_path / "data")
    write_photo(data / "train/K5" / CP949)
    write_photo(data / "test" / CP949)
    write_photo(tmp_path / "other" / f"{CP949}.txt")
    rule = r"the name is not UTF-8; rename it"
    for call in (
        lambda: find_photos(data),
        lambda: scan_train_and_test(make_data(tmp_path / "good"), data / "test", DataConfig(), NoProgress()),
        lambda: find_photo_list([data / "test"]),
        lambda: find_photo_list([data / "test" / CP949]),
    ):
        with pytest.raises(DataError, match=rule) as caught:
            call()
        str(caught.value).encode()
    (line,) = describe_left_out(find_below(tmp_path / "other").left_out)
    line.encode()
    assert "\\udcbd" in line
    data.rename(tmp_path / CP949)
    with pytest.raises(DataError, match=rule):
        find_photos(tmp_path / CP949)
    check_utf8(NFC, NFD)


def test_a_folder_of_results_is_not_read(tmp_path: Path) -> None:
    """Pictures inside of an audit, a run or a bundle are not photographs to predict; a folder that is named itself is read."""
    for number, marker in enumerate(finder.RESULT_MARKERS):
        write_photo(tmp_path / f"{number}/report/calibration.png")
        (tmp_path / f"{number}/{marker}").write_text("{}")
    write_photo(tmp_path / "p.jpg")
    assert find_below(tmp_path).photos == ("p.jpg",)
    assert reasons(tmp_path)["0/"] == "a result of hectocar, it holds audit.json"
    assert find_below(tmp_path / "0").photos == ("report/calibration.png",)


def test_a_table_of_another_system_finds_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part of a path may be composed or decomposed, back-slashes are slashes where that exists; one list a folder."""
    write_photo(tmp_path / NFD / "deep" / f"{NFD}.jpg")
    write_photo(tmp_path / "plain" / "a\\b.jpg")
    lists = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: (lists.append(folder), real(folder))[1])
    disk = DiskSpelling(tmp_path)
    wanted = tmp_path / NFD / "deep" / f"{NFD}.jpg"
    for path in (f"{NFC}/deep/{NFC}.jpg", f"./{NFC}/./deep//{NFC}.jpg", f"{NFC}\\deep\\{NFC}.jpg", f".\\{NFD}\\deep/{NFC}.jpg"):
        assert disk.find(path) == wanted
    assert disk.find("plain/a\\b.jpg").is_file()  # on this disk that is a name
    assert [disk.find(f"{NFC}/deep/{number}.jpg").exists() for number in range(300)] == [False] * 300
    assert disk.find("none/x\\y.jpg") == tmp_path / "none/x\\y.jpg"
    assert len(lists) == len(set(lists))


def test_listing_fails_neither_late_nor_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table's folder that cannot be listed has no other spelling in it: the table's own stays."""

    def refuse(_: Path) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    assert DiskSpelling(tmp_path).find("쏘/a.jpg") == tmp_path / "쏘/a.jpg"
