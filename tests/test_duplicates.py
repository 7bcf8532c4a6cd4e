"""Laws of the duplicates: every copy is linked to its picture, no other pair is, and groups are transitive."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from hectocar.auditing.duplicates import DuplicateLink, find_links, group_links
from hectocar.auditing.file_findings import judge_duplicates, judge_files
from hectocar.dataset.decisions import DROP, GROUP, KEEP, Decision
from hectocar.dataset.scan import PhotoScan, scan_files
from pictures import edited_copies, encode, make_picture, save


def scan(root: Path) -> PhotoScan:
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return scan_files(root, paths, max_megapixels=100.0)


def links_by_name(root: Path) -> dict[tuple[str, str], DuplicateLink]:
    table = scan(root)
    found = find_links(table, max_megapixels=100.0)
    return {tuple(sorted((table.image_id[link.first], table.image_id[link.second]))): link for link in found}  # type: ignore[misc]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures, some of them with all their edited copies."""
    root = tmp_path_factory.mktemp("pictures")
    for seed in range(40):
        picture = make_picture(seed)
        save(root / f"{seed:02d}.jpg", encode(picture))
        if seed in (3, 17, 29):
            for name, data in edited_copies(picture).items():
                save(root / f"{seed:02d} {name}.jpg", data)
    return root


def test_every_edited_copy_joins_its_group_and_nothing_else_does(room: Path) -> None:
    """Groups are the pictures: no copy is missed, and no two pictures share a group."""
    table = scan(room)
    groups = group_links(find_links(table, max_megapixels=100.0), len(table))
    names = [image_id[:2] for image_id in table.image_id]
    for k in range(len(table)):
        for other in range(k):
            assert (groups[k] == groups[other]) == (names[k] == names[other]), (table.image_id[k], table.image_id[other])


def test_embeddings_only_add_candidates(room: Path) -> None:
    """Embeddings that call everything alike make more pairs to look at, not more links."""
    table = scan(room)
    alike = np.ones((len(table), 4), dtype=np.float32)
    plain, more = (find_links(table, max_megapixels=100.0, embeddings_ND=e) for e in (None, alike))
    pairs = {(link.first, link.second) for link in plain}
    assert pairs <= {(link.first, link.second) for link in more}
    groups = (group_links(plain, len(table)).tolist(), group_links(more, len(table)).tolist())
    assert groups[0] == groups[1]


def test_equal_bytes_and_equal_pixels_are_told_apart(tmp_path: Path) -> None:
    """A copy has the same bytes; a PNG of the decoded JPEG and a file with other metadata have the same pixels."""
    data = encode(make_picture(1))
    original = save(tmp_path / "a.jpg", data)
    shutil.copy(original, tmp_path / "b.jpg")
    save(tmp_path / "c.jpg", data[:2] + b"\xff\xfe\x00\x06text" + data[2:])
    buffer = io.BytesIO()
    from PIL import Image

    Image.open(original).save(buffer, "PNG")
    save(tmp_path / "d.png", buffer.getvalue())
    save(tmp_path / "e.jpg", encode(make_picture(2)))
    kinds = {pair: link.how for pair, link in links_by_name(tmp_path).items()}
    assert kinds == {("a.jpg", "b.jpg"): "bytes", ("a.jpg", "c.jpg"): "pixels", ("a.jpg", "d.png"): "pixels"}


def test_unreadable_files_are_nobodys_duplicates(tmp_path: Path) -> None:
    """Two empty files and two equal error pages are unusable, not copies of a photograph."""
    for number, data in enumerate((b"", b"", b"<html>", b"<html>")):
        save(tmp_path / f"{number}.jpg", data)
    assert links_by_name(tmp_path) == {}


def test_groups_are_transitive() -> None:
    """A chain of links is one group, named by its lowest place."""
    links = [DuplicateLink(a, b, "near", 1.0, "") for a, b in ((4, 5), (1, 4), (2, 3))]
    assert group_links(links, 7).tolist() == [0, 1, 2, 2, 1, 1, 6]


def judge(root: Path, labels: dict[str, int]) -> dict[tuple[str, str], Decision]:
    table = scan(root)
    label_of = [labels[image_id.split("/")[0]] for image_id in table.image_id]
    rows = judge_duplicates(table, find_links(table, max_megapixels=100.0), label_of)
    return {(row.file, row.kind): row for row in rows}


def test_decisions_follow_from_where_the_copies_lie(tmp_path: Path) -> None:
    """Within a class the first is kept and edited copies are grouped; across classes none is trusted; test stays."""
    picture = make_picture(1)
    data, copies = encode(picture), edited_copies(picture)
    save(tmp_path / "A/1.jpg", data)
    save(tmp_path / "A/2.jpg", data)
    save(tmp_path / "A/3.jpg", copies["resized"])
    save(tmp_path / "test/9.jpg", copies["darkened"])
    other = encode(make_picture(2))
    save(tmp_path / "A/5.jpg", other)
    save(tmp_path / "B/6.jpg", other)
    rows = judge(tmp_path, {"A": 0, "B": 1, "test": -1})
    decisions = {key: row.decision for key, row in rows.items()}
    assert decisions[("A/1.jpg", "exact_duplicate")] == KEEP
    assert decisions[("A/2.jpg", "exact_duplicate")] == DROP
    assert decisions[("A/3.jpg", "near_duplicate")] == GROUP
    assert decisions[("A/1.jpg", "train_test_duplicate")] == KEEP
    assert {decisions[(file, "duplicate_other_class")] for file in ("A/5.jpg", "B/6.jpg")} == {DROP}
    assert not any(file.startswith("test/") for file, _ in rows)
    assert len({row.group for (file, _), row in rows.items() if file in ("A/1.jpg", "A/2.jpg", "A/3.jpg")}) == 1
    assert "test/9.jpg" in rows[("A/1.jpg", "train_test_duplicate")].reason
    # Two names of one car are one class: the copy is then an ordinary duplicate.
    same = judge(tmp_path, {"A": 0, "B": 0, "test": -1})
    assert ("B/6.jpg", "duplicate_other_class") not in same
    assert same[("B/6.jpg", "exact_duplicate")].decision == DROP


def test_unusable_and_odd_files_are_told_apart(tmp_path: Path) -> None:
    """Empty, text, cut, tiny and ribbon-shaped files are unusable; PNG named .jpg, CMYK, grey and turned ones are fine."""
    from PIL import Image

    picture = make_picture(3)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    bad = {
        "empty": b"", "text": b"404", "cut": encode(picture)[:3000],
        "tiny": encode(Image.new("RGB", (8, 8))), "ribbon": encode(Image.new("RGB", (900, 40))),
    }  # fmt: skip
    odd = {
        "png": buffer.getvalue(), "cmyk": encode(picture.convert("CMYK")), "grey": encode(picture.convert("L")),
        "turned": encode(picture, exif=exif),
    }  # fmt: skip
    for name, data in (bad | odd | {"plain": encode(picture)}).items():
        save(tmp_path / f"{name}.jpg", data)
    table = scan(tmp_path)
    rows = {Path(row.file).stem: (row.kind, row.decision) for row in judge_files(table, [0] * len(table))}
    assert rows == dict.fromkeys(bad, ("unusable", DROP)) | dict.fromkeys(odd, ("odd_but_fine", KEEP))
    assert {row.decision for row in judge_files(table, [-1] * len(table))} == {KEEP}
