"""Where a prediction comes from: how much the predicted class loses when one tile of the photograph is greyed out.

Occlusion sensitivity (Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 4.2). It asks
nothing of the network but answers, so it holds for a whole ensemble with its views and its calibration.
Shapes: H x W tiles of the photograph, B altered photographs of a batch, G trained classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hectocar.delivery.prediction import Prediction
from hectocar.delivery.predictor import Classifier, Photo, name_photo, read_photo
from hectocar.disk.outputs import replace_own_file
from hectocar.errors import ConfigError, DataError
from hectocar.lab.preview import load_font, printable
from hectocar.photos.batches import RenderBatch, decode_for
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.photos.render import render_picture
from hectocar.photos.views import Render, measure_look

MAX_GRID = 32
_BATCH = 32
"""Altered photographs that are asked about at once; bounds the memory, not the result."""
_TINY = 1e-12
_FULL_HEAT = 0.8
"""Opacity of the strongest tile."""
_FAINT_DROP = 0.2
"""Drops below this many nats never get the full colour: what hardly matters must not look as if it did."""
_CELL_W, _CELL_H, _TEXT_W, _GAP = 300, 200, 420, 12
_FIGURE_W = 52
_WARM, _COLD = (214, 40, 20), (20, 90, 200)
_SOFT, _GOOD, _BAD = (60, 60, 60), (0, 120, 40), (180, 30, 30)


@dataclass(frozen=True)
class OcclusionMap:
    """What the classifier answers, and what each tile of the photograph contributes to it."""

    label: int
    """The predicted class, among the trained ones."""
    prob: float
    """Of the predicted class on the whole photograph."""
    drop_HW: NDArray[np.float64]
    """Fall of the log probability of the predicted class, in nats, when the tile is greyed out; below 0 it rises."""
    top: Prediction
    """The most probable classes of the whole photograph."""


def occlusion_map(classifier: Classifier, photo: Photo, grid: int = 8) -> OcclusionMap:
    """Greys out one tile after the other with the photograph's mean colour and asks the classifier each time.

    The looks (brightness, sharpness) are those of the whole photograph throughout, so that only the pixels differ.

    Args:
        classifier: All its networks and views are asked grid x grid + 1 times.
        photo: As for ``Classifier.predict``.
        grid: Tiles per side.

    Raises:
        ConfigError: The grid is out of range.
        DataError: The photograph cannot be read.
    """
    if not 1 <= grid <= MAX_GRID:
        raise ConfigError(f"grid is {grid}; allowed: 1 to {MAX_GRID}")
    tiles = [None, *((row, column) for row in range(grid) for column in range(grid))]
    whole = _decode_for(classifier, photo)
    look_K = np.array(measure_look(whole[0]), dtype=np.float32)
    answers = []
    for start in range(0, len(tiles), _BATCH):
        part = tiles[start : start + _BATCH]
        index_B = np.arange(len(part), dtype=np.int64)
        pictures = _render_tiles(whole, classifier.renders, part, grid)
        answers.append(classifier.answer(RenderBatch(pictures, np.tile(look_K, (len(part), 1)), index_B, {})))
    probs_BG = np.concatenate(answers)
    order = np.argsort(-probs_BG[0], kind="stable")[:5]
    label = int(order[0])
    log_prob_B = np.log(np.maximum(probs_BG[:, label], _TINY))
    return OcclusionMap(
        label=label,
        prob=float(probs_BG[0, label]),
        drop_HW=(log_prob_B[0] - log_prob_B[1:]).reshape(grid, grid),
        top=Prediction(tuple(classifier.classes.label(int(g)) for g in order), tuple(probs_BG[0, order].tolist())),
    )


def _decode_for(classifier: Classifier, photo: Photo) -> list[Image.Image]:
    """The photograph as ``predict`` has it before each render."""
    pixels = read_photo(photo)
    try:
        return decode_for(pixels, classifier.renders, classifier.spec.max_megapixels)
    except DataError as error:
        raise DataError(f"{name_photo(photo)}{error}") from error


def _render_tiles(
    images: Sequence[Image.Image], renders: Sequence[Render], tiles: Sequence[tuple[int, int] | None], grid: int
) -> tuple[NDArray[np.uint8], ...]:
    """(B, S, S, 3) per render: the photograph without each of the tiles."""
    stacks: list[list[NDArray[np.uint8]]] = [[] for _ in renders]
    for tile in tiles:
        greyed = {id(image): grey_tile(image, tile, grid) for image in images}
        for stack, image, render in zip(stacks, images, renders, strict=True):
            stack.append(render_picture(greyed[id(image)], render))
    return tuple(np.stack(stack) for stack in stacks)


def grey_tile(image: Image.Image, tile: tuple[int, int] | None, grid: int) -> Image.Image:
    """The image with the tile (row, column) in its own mean colour; None greys nothing."""
    if tile is None:
        return image
    pixels = np.array(image)
    (top, bottom), (left, right) = (
        (round(place * size / grid), round((place + 1) * size / grid))
        for place, size in zip(tile, pixels.shape[:2], strict=True)
    )
    pixels[top:bottom, left:right] = np.rint(pixels.mean(axis=(0, 1))).astype(np.uint8)
    return Image.fromarray(pixels)


def draw_explanations(items: Sequence[tuple[Path, OcclusionMap, str | None]], path: Path) -> None:
    """Writes a PNG: per row a photograph, the same under its heat, and the three most probable names.

    Red tiles carry the prediction: without them it is less probable. Blue ones speak against it. The scale is each
    photograph's own, and stands beside it.

    Args:
        items: (photograph, its map, true name or None).
        path: The PNG.

    Raises:
        DataError: Nothing to draw, or a photograph that cannot be read.
    """
    if not items:
        raise DataError("no photographs to explain; give one or more")
    sheet = Image.new("RGB", (2 * _CELL_W + _TEXT_W + 4 * _GAP, len(items) * (_CELL_H + _GAP) + _GAP), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    for place, (file, found, truth) in enumerate(items):
        top = _GAP + place * (_CELL_H + _GAP)
        try:
            image = decode_photo(read_photo_bytes(file))
        except DataError as error:
            raise DataError(f"{file}: {error}") from error
        scale = min(_CELL_W / image.width, _CELL_H / image.height)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        sheet.paste(image, (_GAP, top))
        sheet.paste(overlay_heat(image, found.drop_HW), (2 * _GAP + _CELL_W, top))
        _write_answer(draw, (3 * _GAP + 2 * _CELL_W, top), found, truth)
    replace_own_file(path, "preview", lambda target: sheet.save(target, format="PNG"))


def overlay_heat(image: Image.Image, drop_HW: NDArray[np.float64]) -> Image.Image:
    """The image in grey under its drops: red where greying costs, blue where it helps, clear where it changes nothing."""
    strength_HW = np.clip(drop_HW / max(float(np.abs(drop_HW).max()), _FAINT_DROP), -1.0, 1.0)
    heat = Image.fromarray(strength_HW.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    amount = np.asarray(heat)[:, :, None]
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32) * 0.8 + 40.0
    colour = np.where(amount >= 0.0, np.array(_WARM, dtype=np.float32), np.array(_COLD, dtype=np.float32))
    alpha = _FULL_HEAT * np.abs(amount)
    return Image.fromarray(np.rint(grey * (1.0 - alpha) + colour * alpha).clip(0, 255).astype(np.uint8))


def _write_answer(draw: ImageDraw.ImageDraw, corner: tuple[int, int], found: OcclusionMap, truth: str | None) -> None:
    left, top = corner
    right = truth is not None and truth in found.top.name.split(" = ")
    first = _SOFT if truth is None else _GOOD if right else _BAD
    lines = [
        (f"{prob:.1%}", name, _SOFT if place else first)
        for place, (name, prob) in enumerate(zip(found.top.names[:3], found.top.probs[:3], strict=True))
    ]
    if truth is not None and not right:
        lines.append(("is", truth, _SOFT))
    without = found.prob * float(np.exp(-found.drop_HW.max()))
    lines += [("", "", _SOFT), (f"{without:.1%}", "the first name, without its strongest tile", _SOFT)]
    for number, (figure, name, colour) in enumerate(lines):
        height = top + 4 + 24 * number
        draw.text((left + _FIGURE_W, height), figure, fill=colour, font=load_font(), anchor="ra")
        draw.text((left + _FIGURE_W + _GAP, height), _shorten(name), fill=colour, font=load_font(), anchor="la")


def _shorten(name: str) -> str:
    """The name as far as it fits beside its figure."""
    text, font = printable(name), load_font()
    if font.getlength(text) <= _TEXT_W - _FIGURE_W - _GAP:
        return text
    while text and font.getlength(text + "...") > _TEXT_W - _FIGURE_W - _GAP:
        text = text[:-1]
    return text + "..."
