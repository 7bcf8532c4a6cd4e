"""Laws of --out, the same for every command: nothing of the user's is replaced, and a kill leaves nothing unknown."""

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hectocar.disk import outputs
from hectocar.disk.artifacts import write_json
from hectocar.disk.outputs import (
    MARK,
    Mark,
    check_file,
    check_folder,
    check_unedited,
    claim_file,
    claim_folder,
    identify,
    is_own_file,
    list_content,
    mark_folder,
    publish_folder,
    read_mark,
    replace_own_file,
)
from hectocar.disk.writing import name_beside
from hectocar.errors import ArtifactError, WriteError

SIGNS = {"audit": ["audit.json"], "bundle": ["bundle.json"], "run": ["config.json", "manifest.parquet"]}


def text(content: str) -> Callable[[Path], object]:
    return partial(Path.write_text, data=content)


def make_artefact(folder: Path, kind: str) -> Path:
    folder.mkdir(parents=True)
    for name in SIGNS.get(kind, []):
        (folder / name).write_text("{}")
    if kind not in SIGNS:
        Mark(kind).write(folder / MARK)
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


KINDS = sorted(outputs._WORDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_folder_is_taken_or_refused_by_one_rule(kind: str, tmp_path: Path) -> None:
    """Missing and empty are taken, our own of that kind is known, all else is refused with what it is."""
    (tmp_path / "empty").mkdir()
    assert not check_folder(tmp_path / "empty", kind)
    assert not check_folder(tmp_path / "not" / "there", kind)
    for other in KINDS:
        folder = tmp_path / other if (tmp_path / other).exists() else make_artefact(tmp_path / other, other)
        if other == kind:
            assert check_folder(folder, kind)
        else:
            with pytest.raises(
                ArtifactError, match=rf"--out .*{other}: holds an? .*, not an? .*; give a new or an empty folder"
            ):
                check_folder(folder, kind)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(
        ArtifactError, match=r"exists and is not an? .* \(it holds 'thesis.txt'\); give a new or an empty folder"
    ):
        check_folder(tmp_path / "mine", kind)
    with pytest.raises(ArtifactError, match="is a file, and"):
        check_folder(tmp_path / "mine" / "thesis.txt", kind)
    for target in ("empty", "nowhere", "mine/thesis.txt"):
        (tmp_path / "link").symlink_to(tmp_path / target)
        with pytest.raises(ArtifactError, match="is a symbolic link"):
            check_folder(tmp_path / "link", kind)
        (tmp_path / "link").unlink()
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


def test_a_file_of_the_users_is_refused(tmp_path: Path) -> None:
    """What has no mark of ours is the user's, but for an empty file; --overwrite says otherwise."""
    path = tmp_path / "answers.csv"
    check_file(path, "folds")
    path.touch()
    check_file(path, "folds")
    path.write_text("my answers")
    with pytest.raises(
        ArtifactError, match=r"exists and is not a table of folds as hectocar wrote it; .* --overwrite to lose it"
    ):
        check_file(path, "folds")
    check_file(path, "folds", overwrite=True)


def test_our_own_file_is_replaced_until_it_is_edited(tmp_path: Path) -> None:
    """The mark holds kind and bytes: the same command may write again; another kind, an edit or a copy may not be lost."""
    path = tmp_path / "out.csv"
    for content in ("one", "two"):
        check_file(path, "folds")
        replace_own_file(path, "folds", text(content))
    assert names_in(tmp_path) == [".out.csv.hectocar", "out.csv"]
    with pytest.raises(ArtifactError, match="is not a submission"):
        check_file(path, "submission")
    path.write_text("two, and a note of mine")
    with pytest.raises(ArtifactError, match="as hectocar wrote it"):
        check_file(path, "folds")
    path.write_text("two")
    check_file(path, "folds")


@pytest.mark.parametrize("moment", ["mark", "file"])
def test_a_cut_while_a_file_is_replaced_leaves_it_ours(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old or new, whichever stands there after a kill is known by its mark, so the same command goes on."""
    path = tmp_path / "out.csv"
    replace_own_file(path, "folds", text("old"))
    replace = Path.replace

    def cut(temporary: Path, target: Path) -> Path:
        if (Path(target).name == path.name) == (moment == "file"):
            raise KeyboardInterrupt
        return replace(temporary, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            replace_own_file(path, "folds", text("new"))
    assert path.read_text() == "old"
    assert is_own_file(path, "folds")
    replace_own_file(path, "folds", text("new"))
    assert is_own_file(path, "folds")


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_read_is_never_written(overwrite: bool, tmp_path: Path) -> None:
    """An input of the command, under any of its names, is safe from --overwrite too."""
    table = tmp_path / "data" / "test.csv"
    table.parent.mkdir()
    table.write_text("ID,img_path\n")
    (tmp_path / "other").mkdir()
    os.link(table, tmp_path / "other" / "same.csv")
    (tmp_path / "way").symlink_to(tmp_path / "data")
    for out in (
        table,
        tmp_path / "data" / ".." / "data" / "test.csv",
        tmp_path / "other" / "same.csv",
        tmp_path / "way" / "test.csv",
    ):
        with pytest.raises(ArtifactError, match="is read by this very command"):
            check_file(out, "submission", inputs=[table], overwrite=overwrite)
    audit = make_artefact(tmp_path / "audit", "audit")
    with pytest.raises(ArtifactError, match="is read by this very command"):
        check_file(audit / "audit.json", "folds", inputs=[audit], overwrite=overwrite)
    check_file(audit / "folds.csv", "folds", inputs=[audit], overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_and_special_files_are_never_written(overwrite: bool, tmp_path: Path) -> None:
    """Through a symbolic link, whatever it leads to, into a pipe, a socket or a device: refused, --overwrite or not."""
    (tmp_path / "mine.csv").write_text("mine")
    for number, target in enumerate(("mine.csv", "nowhere", ".")):
        (tmp_path / f"link{number}").symlink_to(tmp_path / target)
        with pytest.raises(ArtifactError, match="is a symbolic link"):
            check_file(tmp_path / f"link{number}", "submission", overwrite=overwrite)
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as endpoint:
        here = Path.cwd()
        os.chdir(tmp_path)  # the address of a socket must be short
        endpoint.bind("socket")
        os.chdir(here)
    for special in (tmp_path / "pipe", tmp_path / "socket", Path("/dev/null")):
        with pytest.raises(ArtifactError, match="no regular file"):
            check_file(special, "submission", overwrite=overwrite)
        with pytest.raises(ArtifactError, match="is a file, and"):
            check_folder(special, "audit")
    with pytest.raises(ArtifactError, match="is a folder, and a submission is a file"):
        check_file(tmp_path, "submission", overwrite=overwrite)


def make_layout(root: Path, layout: str) -> Path:
    """DATA with or without train/, a result of ours and an empty folder beside the classes."""
    classes = root / "DATA" / "train" if layout == "train" else root / "DATA"
    for name in ("audi", "bmw"):
        (classes / name).mkdir(parents=True)
        (classes / name / "p.jpg").write_text("x")
    (root / "DATA" / "test").mkdir()
    (root / "DATA" / "test" / "t.jpg").write_text("x")
    make_artefact(root / "DATA" / "audit", "audit")
    (root / "DATA" / "new").mkdir()
    return root / "DATA"


@pytest.mark.parametrize("layout", ["train", "flat"])
def test_nothing_is_written_among_the_photographs(layout: str, tmp_path: Path) -> None:
    """DATA, what holds it, its class folders and its test set are refused; beside the classes results may lie."""
    data = make_layout(tmp_path, layout)
    classes = data / "train" if layout == "train" else data
    (tmp_path / "way").symlink_to(data)
    among = [classes / "audi" / "x", classes / "audi" / "deep" / "x", data / "test" / "x", tmp_path / "way" / "test" / "x"]
    for out in among:
        with pytest.raises(ArtifactError, match="lies among the photographs"):
            check_folder(out, "audit", data=data)
        with pytest.raises(ArtifactError, match="lies among the photographs"):
            check_file(out, "folds", data=data, overwrite=True)
    for out in (data, tmp_path):
        with pytest.raises(ArtifactError, match="holds the photographs"):
            check_folder(out, "audit", data=data)
    with pytest.raises(ArtifactError, match="lies among the photographs"):
        check_folder(classes / "audi", "audit", data=data)
    assert check_folder(data / "audit", "audit", data=data)
    for out in (data / "new", data / "not there", tmp_path / "audit"):
        assert not check_folder(out, "audit", data=data)
    check_file(data / "folds.csv", "folds", data=data)


def test_nothing_is_written_into_a_model_that_is_read(tmp_path: Path) -> None:
    """A run or bundle is whole as it is: no answer and no folder is put into it by a command that reads it."""
    run = make_artefact(tmp_path / "run", "run")
    for out in (run / "s.csv", run / "fold0" / "s.csv"):
        with pytest.raises(ArtifactError, match=r"lies in .*run, which this command reads"):
            check_file(out, "submission", inputs=[run], overwrite=True)
    with pytest.raises(ArtifactError, match=r"lies in .*run, which this command reads"):
        check_folder(run / "bundle", "bundle", inputs=[run])
    with pytest.raises(ArtifactError, match="is read by this very command"):
        check_folder(run, "run", inputs=[run])


@pytest.mark.parametrize("out", ["file/x", "file/deep/x", "n" * 300])
def test_a_place_that_cannot_be_is_refused_before_the_work(out: str, tmp_path: Path) -> None:
    """Under a file, or with a name that no disk takes: one message, and nothing is made."""
    (tmp_path / "file").touch()
    for claim in (claim_folder(tmp_path / out, "audit"), claim_file(tmp_path / out, "folds")):
        with pytest.raises(WriteError, match=r"file is no folder|name is too long"), claim:
            pytest.fail("worked")
    assert names_in(tmp_path) == ["file"]


def test_a_missing_parent_is_made_and_goes_where_nothing_was_written(tmp_path: Path) -> None:
    """A command that fails leaves no empty folders behind; one that writes finds its folder."""
    with pytest.raises(ZeroDivisionError), claim_folder(tmp_path / "a" / "b", "audit"):
        raise ZeroDivisionError
    assert names_in(tmp_path) == []
    with claim_file(tmp_path / "a" / "b.csv", "folds") as check:
        check()
        replace_own_file(tmp_path / "a" / "b.csv", "folds", text("x"))
    assert names_in(tmp_path / "a") == [".b.csv.hectocar", "b.csv"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(WriteError, match="Permission denied"), claim_folder(tmp_path / "locked" / "audit", "audit"):
        pass


def test_what_appears_while_a_command_works_is_not_replaced(tmp_path: Path) -> None:
    """The check is made again just before the file is written."""
    with claim_file(tmp_path / "out.csv", "folds") as check:
        (tmp_path / "out.csv").write_text("mine")
        with pytest.raises(ArtifactError, match="as hectocar wrote it"):
            check()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "\x00", "[" * 50_000, '{"kind": "demo", "sha256": {"a": 3}, "made_of": ""}']
)
def test_a_mark_that_is_none_marks_nothing(content: str, tmp_path: Path) -> None:
    """A foreign or damaged file of that name leaves the folder the user's."""
    (tmp_path / MARK).write_text(content)
    assert read_mark(tmp_path / MARK) is None
    assert identify(tmp_path) == ""
    with pytest.raises(ArtifactError, match="is not a demo"):
        check_folder(tmp_path, "demo")


def fill(folder: Path, **files: str) -> None:
    for name, content in files.items():
        (folder / f"{name}.txt").write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != MARK}


def test_a_published_folder_is_replaced_file_by_file(tmp_path: Path) -> None:
    """What we wrote is replaced or taken away, what the user put there stays, and no litter does."""
    folder = tmp_path / "audit"
    publish_folder(folder, "audit", partial(fill, a="1", b="1", last="1"), last="last.txt")
    (folder / "notes.txt").write_text("mine")
    publish_folder(folder, "audit", partial(fill, a="2", last="2"), last="last.txt")
    assert contents(folder) == {"a.txt": "2", "last.txt": "2", "notes.txt": "mine"}
    assert identify(folder) == "audit"
    check_unedited(folder, "")
    assert names_in(tmp_path) == ["audit"]


def test_edits_are_not_lost(tmp_path: Path) -> None:
    """An edited file stops the whole replacement, also an edit that is made while the new files are written."""
    folder = tmp_path / "audit"
    publish_folder(folder, "audit", partial(fill, a="1", b="1"))

    def edit_meanwhile(temporary: Path) -> None:
        fill(temporary, a="2", b="2")
        (folder / "b.txt").write_text("mine")

    with pytest.raises(ArtifactError, match=r"b\.txt: edited since hectocar wrote it; move it away"):
        publish_folder(folder, "audit", edit_meanwhile, advice="move it away")
    assert contents(folder) == {"a.txt": "1", "b.txt": "mine"}
    with pytest.raises(ArtifactError, match="edited since"):
        check_unedited(folder, "")
    publish_folder(folder, "audit", partial(fill, a="3", b="3"), overwrite=True)
    assert contents(folder) == {"a.txt": "3", "b.txt": "3"}


@pytest.mark.parametrize("moment", range(5))
def test_a_cut_while_a_folder_is_replaced_is_no_dead_end(moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut between any two moves: no mixture passes for whole, nobody is said to have edited, and the same call goes on."""
    folder = tmp_path / "audit"
    publish_folder(folder, "audit", partial(fill, a="1", b="1", gone="1", last="1"), last="last.txt")
    new = partial(fill, a="2", b="2", last="2")
    replace, moves = Path.replace, iter(range(100))

    def cut(path: Path, target: Path) -> Path:
        if next(moves) == moment:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            publish_folder(folder, "audit", new, last="last.txt")
    found = contents(folder)
    if "last.txt" in found:
        assert {found["a.txt"], found["b.txt"], found["last.txt"]} in ({"1"}, {"2"})
    assert check_folder(folder, "audit")
    check_unedited(folder, "")
    publish_folder(folder, "audit", new, last="last.txt")
    assert contents(folder) == {"a.txt": "2", "b.txt": "2", "last.txt": "2"}


def test_a_folder_is_marked_once(tmp_path: Path) -> None:
    """Marking makes a missing or empty folder ours, and changes nothing in one that is."""
    mark_folder(tmp_path / "x", "demo")
    write_json(tmp_path / "x" / "y.json", {})
    before = (tmp_path / "x" / MARK).stat().st_mtime_ns
    mark_folder(tmp_path / "x", "demo")
    assert (tmp_path / "x" / MARK).stat().st_mtime_ns == before
    assert list_content(tmp_path / "x") == [MARK, "y.json"]


def test_the_mark_of_a_long_name_has_a_place(tmp_path: Path) -> None:
    """A name of 255 bytes leaves no room for more in it: a digest stands for it beside it."""
    path = tmp_path / ("쏘" * 83 + ".csv")
    replace_own_file(path, "folds", text("x"))
    assert is_own_file(path, "folds")
    assert name_beside(path, MARK).is_file()
