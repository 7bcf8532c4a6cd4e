"""score.html: what a submission scored, which classes the loss comes from, and its most expensive photographs with pictures.

One file that opens anywhere, built as the audit's page is: no network, no script, pictures as data URIs, every text of a
stranger escaped by the template (pages/templates/score.html). Two tables beside it hold every class and every photograph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hectocar.dataset.photo_list import find_photo_list
from hectocar.disk.outputs import publish_folder
from hectocar.disk.writing import replace_file
from hectocar.errors import DataError
from hectocar.pages.environment import render
from hectocar.pages.pictures import Thumb, make_thumb
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.scoring.photo_losses import PhotoLosses
from hectocar.scoring.truth import ScoreReport
from hectocar.tables import csv_text, normalize_name

CLASSES_FILE, PHOTOGRAPHS_FILE, PAGE_FILE = "per_class.csv", "photographs.csv", "score.html"
EDITED = "give another --out, or --overwrite to lose the edits"
PICTURE_LONG_SIDE_PX, PICTURE_QUALITY = 360, 78
"""Larger than the audit's thumbnails: a person tells 396 models of cars apart in them."""
MAX_VISIBLE_CLASSES = 12


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
    shown = losses.photos[:top]
    thumbs = [None if pictures.problem else load_picture(pictures.files.get(normalize_name(cost.image_id))) for cost in shown]
    return render(
        "score.html",
        title=title,
        report=report,
        num_used=sum(1 for cost in losses.classes if cost.num_rows),
        classes=losses.classes,
        largest_share=max((cost.share for cost in losses.classes), default=0.0) or 1.0,
        max_visible_classes=MAX_VISIBLE_CLASSES,
        classes_file=CLASSES_FILE,
        carried=losses.describe_top(top),
        photographs=list(zip(shown, thumbs, strict=True)),
        photographs_file=PHOTOGRAPHS_FILE,
        no_pictures=pictures.problem,
        format_prob=format_prob,
    )


def format_prob(prob: float) -> str:
    """Percent where that says something, else the power of ten."""
    return f"{prob:.1%}" if prob >= 0.0005 or prob == 0.0 else f"{prob:.0e}"


def load_picture(file: Path | None) -> Thumb:
    """A JPEG of at most 360 px, or why there is none; a problem names no folder of this machine."""
    if file is None:
        return Thumb(problem="no photograph has this id")
    try:
        image = decode_photo(read_photo_bytes(file), min_side_px=PICTURE_LONG_SIDE_PX)
    except DataError as error:
        return Thumb(problem=f"{file.name}: " + str(error).replace(f"{file}: ", ""))
    return make_thumb(image, PICTURE_LONG_SIDE_PX, PICTURE_QUALITY)
