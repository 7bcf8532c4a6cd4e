"""score.html: what a submission scored, which classes the loss comes from, and its most expensive photographs with pictures.

One file that opens anywhere, built as the audit's page is: no network, no script, pictures as data URIs, every text of a
stranger escaped. Two tables beside it hold every class and every photograph.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from hectocar.dataset.photo_list import find_photo_list
from hectocar.disk.outputs import publish_folder
from hectocar.disk.writing import replace_file
from hectocar.errors import DataError
from hectocar.pages.parts import CONTENT_POLICY, STYLE, Thumb, count_html, escape, name_html, picture_html
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.scoring.photo_losses import ClassLoss, PhotoLoss, PhotoLosses
from hectocar.scoring.truth import ScoreReport
from hectocar.tables import csv_text, normalize_name

CLASSES_FILE, PHOTOGRAPHS_FILE, PAGE_FILE = "per_class.csv", "photographs.csv", "score.html"
EDITED = "give another --out, or --overwrite to lose the edits"
PICTURE_LONG_SIDE_PX, PICTURE_QUALITY = 360, 78
"""Larger than the audit's thumbnails: a person tells 396 models of cars apart in them."""
MAX_VISIBLE_CLASSES = 12
_ADVICE = "hectocar score SUBMISSION ANSWER --photos TEST_CSV_OR_FOLDER --out DIR"
_STYLE = """
.scores td, .scores th { white-space: nowrap; }
.cards { display: grid; gap: 2.2rem 1.6rem; margin: 1.6rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.cards .frame { max-width: none; min-height: 0; height: 15rem; align-items: center; justify-content: center;
  background: var(--panel); border-radius: 3px; }
.cards .photo { width: auto; max-height: 15rem; background: none; }
.cards .missing { width: 100%; height: 100%; }
.cards dl { display: grid; grid-template-columns: auto 1fr auto; gap: .15rem .7rem; margin: .2rem 0 0; }
.cards dt { color: var(--soft); }
.cards dd { margin: 0; }
.cards .title { display: flex; justify-content: space-between; gap: 1rem; font-size: .95rem; }
.box.classes { max-height: 36rem; }
.box.classes td, .box.classes th { padding-top: .3rem; padding-bottom: .3rem; }
.box.classes .bar { min-width: 7rem; }
"""


@dataclass(frozen=True)
class Pictures:
    """Where the photographs lie, by id under NFC, and why there are none."""

    files: Mapping[str, Path] = field(default_factory=dict)
    problem: str = ""


def find_pictures(photos: Path | None, answer: Path, image_ids: Sequence[str]) -> Pictures:
    """The photographs that a user points at, else those of `test.csv` beside the answers or in the folder above.

    Args:
        photos: test.csv, or a folder of photographs named after their ids.
        answer: The table of the answers.
        image_ids: Of the answers.

    Raises:
        DataError: What the user points at is no such thing, or holds none of these ids. A test.csv that was found without
            being pointed at is only told about.
    """
    if photos is not None:
        return Pictures(_files_by_id(photos, image_ids))
    folder = answer.absolute().parent
    for table in (folder / "test.csv", folder.parent / "test.csv"):
        if table.is_file():
            try:
                return Pictures(_files_by_id(table, image_ids))
            except DataError as error:
                return Pictures(problem=str(error).replace(f"{table.parent}/", ""))
    return Pictures(problem="no test.csv lies beside the answers or in the folder above them")


def _files_by_id(photos: Path, image_ids: Sequence[str]) -> dict[str, Path]:
    found = find_photo_list([photos])
    files = {normalize_name(name): file for name, file in zip(found.ids, found.files, strict=True)}
    if files.keys().isdisjoint(map(normalize_name, image_ids)):
        raise DataError(
            f"{photos}: none of its {len(files)} photographs has an id of the answers, such as {image_ids[0]!r}, but ids "
            f"such as {found.ids[0]!r}; allowed: a csv (ID, img_path), or a folder whose file names are the ids"
        )
    return files


def save_score(
    folder: Path,
    report: ScoreReport,
    losses: PhotoLosses,
    pictures: Pictures,
    *,
    title: str,
    top: int = 20,
    overwrite: bool = False,
) -> None:
    """Writes per_class.csv, photographs.csv and score.html; other files of the folder stay.

    Args:
        folder: Made if it is not there.
        report: The score table.
        losses: Of the same submission and answers.
        pictures: Of these photographs; one that cannot be read now gets a box with the reason.
        title: What was scored.
        top: Photographs on the page.
        overwrite: Replace files that a person has edited since.

    Raises:
        WriteError: The folder cannot be written.
    """
    classes = [
        (cost.name, cost.num_rows, _number(cost.log_loss), _number(cost.share), _number(cost.top1), cost.wrong, cost.num_wrong)
        for cost in losses.classes
    ]
    photos = [
        (cost.image_id, cost.label, _number(cost.loss), _number(cost.prob), cost.predicted, _number(cost.predicted_prob))
        for cost in losses.photos
    ]
    texts = {
        CLASSES_FILE: csv_text(("class", "rows", "log_loss", "share", "top1", "wrong_answer", "wrong_count"), classes),
        PHOTOGRAPHS_FILE: csv_text(("ID", "label", "log_loss", "label_prob", "predicted", "predicted_prob"), photos),
        PAGE_FILE: draw_page(report, losses, pictures, title=title, top=top),
    }

    def fill(temporary: Path) -> None:
        for name, text in texts.items():
            _write(temporary / name, text, "utf-8" if name == PAGE_FILE else "utf-8-sig")

    publish_folder(folder, "score", fill, overwrite=overwrite, advice=EDITED)


def _write(path: Path, text: str, encoding: str) -> None:
    # A name may hold what UTF-8 cannot: half a surrogate pair from a file system that does not care.
    replace_file(path, lambda target: target.write_text(text, encoding=encoding, errors="replace", newline=""))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value + 0.0:.9g}"  # -0.0 would be written -0, which looks like a formula


def draw_page(report: ScoreReport, losses: PhotoLosses, pictures: Pictures, *, title: str, top: int = 20) -> str:
    """The whole page as text."""
    parts = [
        f"<header><h1>{escape(title)}</h1>{_headline_html(report, losses)}</header>",
        _scores_html(report),
        _classes_html(losses.classes),
        _photos_html(losses, pictures, top),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _headline_html(report: ScoreReport, losses: PhotoLosses) -> str:
    used = sum(1 for cost in losses.classes if cost.num_rows)
    lead = f"Log loss <b>{report.summed:.5f}</b> over {count_html(report.num_rows, 'photograph')} of "
    lead += f"{count_html(used, 'class', 'classes')}; {report.top1:.2%} are named right."
    return (
        f'<p class="lead">{lead}</p><p class="soft">Equivalent classes count as one class here and their probabilities are '
        "added (the reading “summed”), in every loss and every probability below the table of scores.</p>"
    )


def _scores_html(report: ScoreReport) -> str:
    names = ("rows", "strict", "summed", "maximum", "top-1", "top-5")
    heads = '<th scope="col"></th>' + "".join(f'<th scope="col" class="num">{name}</th>' for name in names)
    rows = []
    for name, part in report.parts().items():
        numbers = [f"{part.num_rows:,}", *(f"{loss:.5f}" for loss in (part.strict, part.summed, part.maximum))]
        numbers += [f"{part.top1:.2%}", f"{part.top5:.2%}"]
        cells = "".join(f'<td class="num">{number}</td>' for number in numbers)
        rows.append(f'<tr><th scope="row">{name_html(name)}</th>{cells}</tr>')
    return (
        '<section aria-labelledby="scores"><h2 id="scores">Scores</h2><div class="scroll"><table class="scores"><thead><tr>'
        f'{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div><p class="note">Log loss where the label’s own '
        "column counts (strict), where the columns of equivalent classes are added (summed), and where the larger of them "
        "counts (maximum). Top-1 and top-5 take an equivalent name as right.</p></section>"
    )


def _photos_html(losses: PhotoLosses, pictures: Pictures, top: int) -> str:
    shown = losses.photos[:top]
    note = ""
    if pictures.problem:
        note = f'<div class="next"><p><b>No pictures:</b> {escape(pictures.problem)}.</p>'
        note += f"<p>To see them: <code>{_ADVICE}</code></p></div>"
    cards = "".join(_card_html(cost, pictures) for cost in shown)
    return (
        '<section aria-labelledby="photographs"><h2 id="photographs">Most expensive photographs</h2>'
        f'<p class="soft">{escape(losses.describe_top(top))}; all of them stand in {PHOTOGRAPHS_FILE}. Where the '
        f'picture shows the predicted car, the label is wrong.</p>{note}<div class="cards">{cards}</div></section>'
    )


def _card_html(cost: PhotoLoss, pictures: Pictures) -> str:
    frame = ""
    if not pictures.problem:
        thumb = load_picture(pictures.files.get(normalize_name(cost.image_id)))
        frame = f'<div class="frame">{picture_html(thumb, f"{cost.image_id}: {cost.true_class}")}</div>'
    lines = _answer_html("is", cost.true_class, cost.prob) + _answer_html("predicted", cost.predicted, cost.predicted_prob)
    head = f'<div class="title">{name_html(cost.image_id)}<span class="num">loss <b>{cost.loss:.3f}</b></span></div>'
    return f"<figure>{frame}<figcaption>{head}<dl>{lines}</dl></figcaption></figure>"


def _answer_html(what: str, name: str, prob: float) -> str:
    return f'<dt>{what}</dt><dd><b>{name_html(name)}</b></dd><dd class="num">{format_prob(prob)}</dd>'


def format_prob(prob: float) -> str:
    """Percent where that says something, else the power of ten."""
    return f"{prob:.1%}" if prob >= 0.0005 or prob == 0.0 else f"{prob:.0e}"


def load_picture(file: Path | None) -> Thumb:
    """A JPEG of at most 360 px, or why there is none; a problem names no folder of this machine."""
    if file is None:
        return Thumb(problem="no photograph has this id")
    try:
        image: Image.Image = decode_photo(read_photo_bytes(file), min_side_px=PICTURE_LONG_SIDE_PX)
    except DataError as error:
        return Thumb(problem=f"{file.name}: " + str(error).replace(f"{file}: ", ""))
    image.thumbnail((PICTURE_LONG_SIDE_PX, PICTURE_LONG_SIDE_PX), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    image.save(target, format="JPEG", quality=PICTURE_QUALITY, optimize=True)
    return Thumb(target.getvalue(), *image.size)


def _classes_html(classes: Sequence[ClassLoss]) -> str:
    largest = max((cost.share for cost in classes), default=0.0) or 1.0
    rows = []
    for cost in classes:
        bar = f'<span class="bar"><i class="hot" style="width:{100 * cost.share / largest:.2f}%"></i></span>'
        mean = "–" if cost.log_loss is None else f"{cost.log_loss:.4f}"
        top1 = "–" if cost.top1 is None else f"{cost.top1:.1%}"
        wrong = f"{name_html(cost.wrong)} <span class='soft'>× {cost.num_wrong:,}</span>" if cost.wrong else "–"
        rows.append(
            f'<tr><th scope="row">{name_html(cost.name)}</th><td>{bar}</td><td class="num">{cost.share:.2%}</td>'
            f'<td class="num">{cost.num_rows:,}</td><td class="num">{mean}</td><td class="num">{top1}</td><td>{wrong}</td></tr>'
        )
    heads = '<th scope="col">class, the most costly first</th><th scope="col" colspan="2">share of the loss</th>'
    heads += "".join(f'<th scope="col" class="num">{name}</th>' for name in ("rows", "log loss", "top-1"))
    heads += '<th scope="col">most frequent wrong answer</th>'
    scrolls = ", the list scrolls" if len(classes) > MAX_VISIBLE_CLASSES else ""
    return (
        '<section aria-labelledby="classes"><h2 id="classes">Classes</h2>'
        f'<p class="soft">{count_html(len(classes), "class", "classes")}{scrolls}; the same in {CLASSES_FILE}.</p>'
        '<div class="box classes" role="region" aria-labelledby="classes" tabindex="0"><table><thead><tr>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )
