"""Picture sheets: what the network sees in training, and what it answers."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hectocar.config.schema import Config
from hectocar.dataset.decisions import find_shift
from hectocar.dataset.layout import find_photos
from hectocar.disk.outputs import replace_own_file
from hectocar.errors import DataError
from hectocar.photos.batches import view_photo
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.photos.shift import PhotoShift
from hectocar.training.draws import draw_mix_params
from hectocar.training.loader import iter_training_batches
from hectocar.training.recipe import epoch_plan
from hectocar.training.step import augment_and_mix

_TEXT_PX, _CELL_PX = 16, 192
_LEADS = ("g", "kk", "n", "d", "tt", "r", "m", "b", "pp", "s", "ss", "", "j", "jj", "ch", "k", "t", "p", "h")
_VOWELS = (
    "a", "ae", "ya", "yae", "eo", "e", "yeo", "ye", "o", "wa", "wae",
    "oe", "yo", "u", "wo", "we", "wi", "yu", "eu", "ui", "i",
)  # fmt: skip
_TAILS = (
    "", "k", "k", "k", "n", "n", "n", "t", "l", "k", "m", "l", "l", "l",
    "p", "l", "m", "p", "p", "t", "t", "ng", "t", "t", "k", "t", "p", "t",
)  # fmt: skip
_FONT_FILES = (
    "/usr/share/fonts/truetype/nanum/NanumGothic.ttf",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/noto/NotoSansCJK-Regular.ttc",
)


def draw_preview(data_folder: Path, config: Config, path: Path, *, num_photos: int = 6, seed: int = 0) -> list[int]:
    """Draws a sheet: for each size of the schedule one row of whole photographs as validated, then augmented ones.

    The augmented rows come out of the training path itself: crops, colours, tones of the test set and mixing are drawn as in
    the first epoch of that size. With an audit's shift (``data.audit``, ``data.shift``) the shifted validation has its row.

    Returns:
        The sizes drawn, in px.

    Raises:
        DataError: No readable photographs.
        ArtifactError: The audit or the shift cannot be read.
    """
    shift = find_shift(config.data)
    found = find_photos(data_folder)
    chosen = np.random.default_rng(seed).permutation(len(found))
    files = [file for file in (found[int(i)][1] for i in chosen[: 8 * num_photos]) if _is_readable(file, config)][:num_photos]
    if len(files) < 2:
        raise DataError(f"{data_folder}: fewer than two readable photographs among {8 * num_photos} tried")
    rows: list[tuple[str, list[NDArray[np.uint8]]]] = []
    sizes: list[int] = []
    shown: set[tuple[int, str]] = set()
    for epoch in range(config.training.epochs):
        plan = epoch_plan(config, epoch)
        if (plan.size_px, plan.mix.kind) in shown:
            continue
        shown.add((plan.size_px, plan.mix.kind))
        if plan.size_px not in sizes:
            sizes.append(plan.size_px)
            fit, limit = config.inference.fit, config.data.max_megapixels
            kinds = {"validation and prediction": None} | ({} if shift is None else {"shifted validation": shift})
            for text, change in kinds.items():
                views = [view_photo(read_photo_bytes(file), plan.size_px, fit, limit, change) for file in files]
                rows.append((f"{plan.size_px} px, {text} ({fit})", views))
        label = f"{plan.size_px} px, training from epoch {epoch + 1}, mix: {plan.mix.kind}"
        rows.append((label, list(training_views(files, config, epoch, shift))))
    draw_sheet(rows, path)
    return sizes


def training_views(files: Sequence[Path], config: Config, epoch: int, shift: PhotoShift | None = None) -> NDArray[np.uint8]:
    """What the training path makes of the photographs in an epoch, before normalisation: uint8 (B, H, W, 3)."""
    plan, index_B = epoch_plan(config, epoch), np.arange(len(files), dtype=np.int64)
    loaded = iter_training_batches(
        files, [index_B], plan.size_px, augment=config.augment, data=config.data, seed=config.training.seed, epoch=epoch
    )
    mix = draw_mix_params(plan.mix, config.training.seed, epoch, index_B, plan.size_px)
    images = augment_and_mix(config, plan, next(iter(loaded)), mix, shift, torch.device("cpu"))
    pixels: NDArray[np.uint8] = (images * 255.0 + 0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels


def draw_sheet(rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]], path: Path, *, cell_px: int = _CELL_PX) -> None:
    """Writes labelled rows of square pictures as a PNG, each brought to ``cell_px``.

    Small pictures are enlarged without smoothing, so that a person sees how little the network gets.
    """
    width = max(len(pictures) for _, pictures in rows) * (cell_px + 4) + 4
    height = cell_px + _TEXT_PX + 10
    sheet = Image.new("RGB", (width, len(rows) * height + 4), (250, 250, 250))
    draw, font = ImageDraw.Draw(sheet), load_font()
    for number, (label, pictures) in enumerate(rows):
        top = 4 + number * height
        draw.text((6, top), label, fill=(20, 20, 20), font=font)
        for place, picture in enumerate(pictures):
            way = Image.Resampling.NEAREST if len(picture) < cell_px else Image.Resampling.LANCZOS
            image = Image.fromarray(picture).resize((cell_px, cell_px), way)
            sheet.paste(image, (4 + place * (cell_px + 4), top + _TEXT_PX + 4))
    replace_own_file(path, "preview", lambda target: sheet.save(target, format="PNG"))


def draw_files(rows: Mapping[str, Sequence[Path]], path: Path) -> None:
    """Writes photographs, each fitted whole into its square, as ``draw_sheet`` does.

    Raises:
        DataError: Nothing to draw, or a photograph that cannot be read.
    """
    if not any(rows.values()):
        raise DataError("no photographs to draw; give one or more")
    drawn = []
    for title, files in rows.items():
        pictures = []
        for file in files:
            try:
                pictures.append(view_photo(read_photo_bytes(file), _CELL_PX, "letterbox"))
            except DataError as error:
                raise DataError(f"{file}: {error}") from error
        drawn.append((title, pictures))
    draw_sheet(drawn, path)


def draw_predictions(items: Sequence[tuple[Path, str, float, str | None]], path: Path, *, columns: int = 4) -> None:
    """Writes a PNG of photographs with their predicted name and probability; the true name, where known, colours it.

    Args:
        items: (photograph, predicted name, probability, true name or None); of equivalent names the first is written.
        path: The PNG.
        columns: Photographs per row.
    """
    cell_w, cell_h = 320, 250
    num_rows = (len(items) + columns - 1) // columns
    sheet = Image.new("RGB", (columns * cell_w, num_rows * cell_h), (250, 250, 250))
    draw, font = ImageDraw.Draw(sheet), load_font()
    for place, (file, name, prob, truth) in enumerate(items):
        left, top = place % columns * cell_w, place // columns * cell_h
        try:
            image = decode_photo(read_photo_bytes(file))
            image.thumbnail((cell_w - 10, cell_h - 55))
            sheet.paste(image, (left + 5, top + 5))
        except DataError:
            draw.text((left + 10, top + 60), "cannot be read: class prior", fill=(160, 0, 0), font=font)
        right = truth is not None and truth in name.split(" = ")
        colour = (60, 60, 60) if truth is None else (0, 120, 40) if right else (180, 30, 30)
        first = name.split(" = ")[0]
        draw.text((left + 6, top + cell_h - 44), printable(f"{prob:.0%} {first}")[:40], fill=colour, font=font)
        if truth is not None and not right:
            draw.text((left + 6, top + cell_h - 24), printable(f"is {truth}")[:40], fill=(60, 60, 60), font=font)
    replace_own_file(path, "preview", lambda target: sheet.save(target, format="PNG"))


def has_korean_font() -> bool:
    """Whether the system has a font that draws Hangul."""
    return any(Path(name).is_file() for name in _FONT_FILES)


def printable(text: str) -> str:
    """The text itself, or romanised where the system has no font for it: empty boxes help nobody."""
    return text if has_korean_font() else romanize(text)


def romanize(text: str) -> str:
    """Hangul syllables letter by letter in the Revised Romanization of Korean (2000), without its sound changes.

    A syllable is 0xAC00 + (lead x 21 + vowel) x 28 + tail (Unicode, 3.12, conjoining jamo behavior).
    """
    letters = []
    for char in unicodedata.normalize("NFC", text):
        code = ord(char) - 0xAC00
        if 0 <= code < 11172:
            letters.append(_LEADS[code // 588] + _VOWELS[code % 588 // 28] + _TAILS[code % 28])
        else:
            letters.append(char)
    return "".join(letters)


def load_font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font with Korean letters where the system has one, else Pillow's own."""
    for name in _FONT_FILES:
        if Path(name).is_file():
            return ImageFont.truetype(name, _TEXT_PX - 2)
    return ImageFont.load_default(_TEXT_PX - 2)


def _is_readable(file: Path, config: Config) -> bool:
    try:
        decode_photo(read_photo_bytes(file), max_megapixels=config.data.max_megapixels)
    except DataError:
        return False
    return True
