"""score.html and its tables: self-contained, safe with any name, honest about pictures that are missing."""

import base64
import csv
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from folders import write_photo
from hectocar.cli import main
from hectocar.errors import ArtifactError, DataError
from hectocar.lab import score_page as room
from hectocar.lab.score_page import Pictures
from hectocar.scoring.photo_losses import compute_photo_losses
from hectocar.scoring.submission import Submission, write_submission
from hectocar.scoring.truth import Truth, score_submission
from pictures import encode, make_picture, save

NASTY = "<script>alert(1)</script>\"'&"
COLUMNS = ("K5", NASTY, "쏘나타_2020", "Sonata")
PAIRS = [("Sonata", "쏘나타_2020")]
IDS = ("T_0", "T_1", "T_2", "<img src=x onerror=alert(1)>", "T_4")
ANSWERS = Truth(IDS, ("K5", NASTY, "쏘나타_2020", "K5", "Sonata"), ("public", "private", "public", "private", "<b>"))
PROBS = np.array([[0.7, 0.1, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1], [0.1, 0.0, 0.4, 0.5], [1e-9, 1 - 1e-9, 0, 0], [0.1, 0.6, 0.3, 0]])
SUBMISSION = Submission(IDS, COLUMNS, PROBS)
FILES = ("per_class.csv", "photographs.csv", "score.html")


class Elements(HTMLParser):
    """All elements with their attributes, and the text outside the style sheet."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def sources(self) -> list[str]:
        return [attrs["src"] or "" for tag, attrs in self.found if tag == "img"]


def draw(pictures: Pictures, top: int = 20) -> str:
    report, costs = score_submission(SUBMISSION, ANSWERS, PAIRS), compute_photo_losses(SUBMISSION, ANSWERS, PAIRS)
    return room.draw_page(report, costs, pictures, title=f"Score of {NASTY}", top=top)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def contest(tmp_path: Path) -> Path:
    """A contest's folder with answers, pairs, test photographs and a submission; T_2 is damaged, T_4 is not there."""
    folder = tmp_path / "contest"
    lines = ["ID,img_path"]
    for number in range(4):
        save(folder / "test" / f"T_{number}.jpg", encode(make_picture(number)))
        lines.append(f"T_{number},./test/T_{number}.jpg")
    (folder / "test" / "T_2.jpg").write_bytes(b"no photograph")
    (folder / "test.csv").write_text("\n".join([*lines, "T_4,./test/T_4.jpg"]))
    (folder / "truth").mkdir()
    (folder / "truth" / "answers.csv").write_text(
        "ID,label\nT_0,K5\nT_1,<i>\nT_2,쏘나타\nT_3,K5\nT_4,Sonata\n", encoding="utf-8"
    )
    (folder / "truth" / "equivalent_classes.csv").write_text("class_a,class_b\nSonata,쏘나타\n", encoding="utf-8")
    ids, columns = tuple(f"T_{number}" for number in range(5)), ("K5", "<i>", "쏘나타", "Sonata")
    write_submission(Submission(ids, columns, PROBS), folder / "submission.csv")
    return folder


def test_the_page_needs_nothing_beside_it_and_runs_nothing(tmp_path: Path) -> None:
    """No script, no handler, no address; names of classes, ids, splits, files and the title stay text."""
    files = {IDS[0]: save(tmp_path / f"{NASTY.replace('/', '_')}.jpg", b"broken"), IDS[3]: tmp_path / "p.jpg"}
    write_photo(files[IDS[3]])
    page = draw(Pictures(files))
    elements = Elements(page)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in elements.found}
    assert not [name for _, attrs in elements.found for name in attrs if name.startswith("on")]
    addresses = [attrs[name] or "" for _, attrs in elements.found for name in ("src", "href") if name in attrs]
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert "default-src 'none'" in page
    assert "alert(1)" in elements.text
    assert page.count("<script") == page.count("<img src=x") == 0
    assert "split <b>" in elements.text
    assert str(tmp_path) not in page


def test_the_page_says_what_was_scored_and_how() -> None:
    """Score table with splits, every class with its share, the reading, and each photograph's two answers."""
    elements, report = Elements(draw(Pictures())), score_submission(SUBMISSION, ANSWERS, PAIRS)
    for part in (report, *report.by_split.values()):
        assert all(f"{loss:.5f}" in elements.text for loss in (part.strict, part.summed, part.maximum))
    assert "their probabilities are added (the reading “summed”)" in elements.text
    costs = compute_photo_losses(SUBMISSION, ANSWERS, PAIRS)
    assert all(f"{cost.share:.2%}" in elements.text for cost in costs.classes)
    assert "Sonata = 쏘나타_2020" in elements.text
    assert "20.723" in elements.text
    assert len(Elements(draw(Pictures(problem="none"), top=2)).found) < len(elements.found)
    assert draw(Pictures(), top=2).count("<figure>") == 2


def test_pictures_are_small_jpegs_and_those_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    """A large photograph shrinks; a missing, an unknown and a damaged one are named without a folder of this machine."""
    files = {"T_0": save(tmp_path / "big.jpg", encode(make_picture(1, 1600, 800))), "T_1": tmp_path / "gone.jpg"}
    files["T_2"] = save(tmp_path / "사진.jpg", b"no photograph")
    page = draw(Pictures(files))
    elements = Elements(page)
    [source] = elements.sources()
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
        assert (image.format, image.size) == ("JPEG", (360, 180))
    for reason in ("gone.jpg: cannot be read (No such file", "사진.jpg: not a photograph", "no photograph has this id"):
        assert f"no picture: {reason}" in elements.text
    assert str(tmp_path) not in page


def test_test_csv_is_found_beside_the_answers_or_above(contest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from inside the folder; what the user points at comes first; ids compare under NFC."""
    ids = ("T_0", "T_4")
    above = room.find_pictures(None, contest / "truth" / "answers.csv", ids)
    assert above.files["T_0"] == contest / "test" / "T_0.jpg"
    monkeypatch.chdir(contest / "truth")
    assert set(room.find_pictures(None, Path("answers.csv"), ids).files) == set(above.files)
    assert set(room.find_pictures(None, contest / "answers.csv", ids).files) == set(above.files)
    assert set(room.find_pictures(contest / "test", Path("answers.csv"), ids).files) == {"T_0", "T_1", "T_2", "T_3"}


def test_what_was_not_pointed_at_is_only_told_about(contest: Path, tmp_path: Path) -> None:
    """No test.csv, a broken one or a foreign one cost the pictures; the same is an error where --photos names it."""
    answer = contest / "truth" / "answers.csv"
    assert "no test.csv lies beside" in room.find_pictures(None, tmp_path / "a" / "b" / "answers.csv", IDS).problem
    foreign = room.find_pictures(None, answer, ("X_0",))
    assert "test.csv: none of its 5 photographs has an id of the answers, such as 'X_0'" in foreign.problem
    with pytest.raises(DataError, match="has an id of the answers, such as 'X_0', but ids such as 'T_0'"):
        room.find_pictures(contest / "test.csv", answer, ("X_0",))
    shutil.rmtree(contest / "test")
    gone = room.find_pictures(None, answer, IDS)
    assert "none of its 5 photographs exists, first test/T_0.jpg" in gone.problem
    text = Elements(draw(gone)).text
    assert "No pictures: test.csv" in text
    assert "hectocar score SUBMISSION ANSWER --photos TEST_CSV_OR_FOLDER --out DIR" in text
    with pytest.raises(DataError, match="none of its 5 photographs exists"):
        room.find_pictures(contest / "test.csv", answer, IDS)


def test_the_command_writes_three_files_and_touches_no_other(contest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run twice it writes the same bytes; the tables hold every class and every row."""
    out = contest / "out"
    arguments = ["score", str(contest / "submission.csv"), str(contest / "truth" / "answers.csv"), "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "equivalent pairs among the columns: 1" in printed
    assert "most frequent wrong answer" in printed
    assert "5 of 5 photographs carry 100.0% of the loss" in printed
    assert f"{out}: score.html, per_class.csv, photographs.csv\n" in printed
    before = {name: (out / name).read_bytes() for name in FILES}
    (out / "mine.txt").write_text("mine")
    assert main(arguments) == 0
    assert {name: (out / name).read_bytes() for name in FILES} == before
    assert {item.name for item in out.iterdir()} == {*FILES, "mine.txt", ".hectocar"}
    (out / "photographs.csv").write_text("my notes")
    assert main(arguments) == 2
    assert "photographs.csv: edited since hectocar wrote it" in capsys.readouterr().err
    assert (out / "photographs.csv").read_text() == "my notes"
    assert main([*arguments, "--overwrite"]) == 0
    photos, classes = rows_of(out / "photographs.csv"), rows_of(out / "per_class.csv")
    assert list(photos[0]) == ["ID", "label", "log_loss", "label_prob", "predicted", "predicted_prob"]
    assert [row["ID"] for row in photos] == ["T_3", "T_1", "T_4", "T_0", "T_2"]
    assert photos[-1]["label_prob"] == "0.9"
    assert [row["class"] for row in classes] == ["K5", "<i>", "Sonata = 쏘나타"]
    assert sum(float(row["share"]) for row in classes) == pytest.approx(1.0)
    worst = [classes[0][name] for name in ("rows", "top1", "wrong_answer", "wrong_count")]
    assert worst == ["2", "0.5", "<i>", "1"]
    page = Elements((out / "score.html").read_text("utf-8"))
    assert len(page.sources()) == 3
    assert "T_2.jpg: not a photograph" in page.text
    assert "T_4.jpg: cannot be read" in page.text


def test_top_rules_the_screen_and_the_page(contest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(contest / "submission.csv"), str(contest / "truth" / "answers.csv")]
    assert main(["score", *files, "--top", "2", "--out", str(contest / "out"), "--photos", str(contest / "test")]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^T_\d", printed, re.MULTILINE) == ["T_3", "T_1"]
    assert (contest / "out" / "score.html").read_text("utf-8").count("<figure>") == 2
    assert len(rows_of(contest / "out" / "photographs.csv")) == 5
    assert main(["score", *files, "--top", "0"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top", "-1"], "--top is -1; allowed: 0 or more"),
        (["--photos", "{folder}/test"], "--photos is for the pictures of score.html; give --out DIR too"),
        (["--photos", "{folder}/nowhere", "--out", "{folder}/out"], "no such file or folder"),
        (["--photos", "{folder}/truth/answers.csv", "--out", "{folder}/out"], "column img_path is not there once"),
        (["--photos", "{folder}/truth", "--out", "{folder}/out"], "no photographs in it"),
        (["--out", "{folder}/submission.csv"], "submission.csv: is a file, and a score is a folder"),
        (["--equivalent", "{folder}/test.csv"], "column class_a, class_b is not there once"),
    ],
)
def test_bad_input_gets_one_message_and_exit_code_2(
    contest: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    files = [str(contest / "submission.csv"), str(contest / "truth" / "answers.csv")]
    assert main(["score", *files, *(option.format(folder=contest) for option in options)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("hectocar: ") == 1
    assert not (contest / "out").exists()


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    report, costs = score_submission(SUBMISSION, ANSWERS, PAIRS), compute_photo_losses(SUBMISSION, ANSWERS, PAIRS)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        room.save_score(tmp_path / "file" / "out", report, costs, Pictures(), title="x")


def test_small_probabilities_keep_their_size() -> None:
    assert [room.format_prob(prob) for prob in (0.0, 3e-9, 0.0004, 0.0123, 1.0)] == ["0.0%", "3e-09", "4e-04", "1.2%", "100.0%"]
