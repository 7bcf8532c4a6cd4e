"""Whether two photographs are one picture: lay one over the other, then compare what is left of their details.

The second photograph is taken for a box of the first (cropped, resized, brightened, recompressed, perhaps mirrored).
Box, gain and offset are found by Gauss-Newton on the difference of pixels (Lucas & Kanade 1981; Baker & Matthews 2004),
and the answer is the correlation of the details, not of the whole: two cars before the same wall agree in all but those.
Legend: S side of the square pictures, P parameters (left, top, width, height of the box, in shares of the side).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from hectocar.photos.decode import decode_photo, read_photo_bytes

SIDE_PX = 96
_COARSE_PX, _COARSE_STEPS, _FINE_STEPS = 48, 12, 6
_BLUR_PX, _DETAIL_PX = 1.0, 4.0
_HOPELESS = 0.5
"""Mean squared difference of standardised pixels (2 minus twice the correlation) at which no finer look is worth it."""
_MIN_SIDE = 0.5
"""A box of less than half of a side is another picture."""

Grey = NDArray[np.float32]
Box = tuple[float, float, float, float]
"""left, top, width, height in shares of the side."""


@dataclass(frozen=True)
class Alignment:
    """How the second photograph lies in the first."""

    similarity: float
    """Correlation of details after alignment, -1 to 1; 1 for the same picture."""
    box: Box
    mirrored: bool
    gain: float
    """Brightness of the second over that of the first: second = gain * first + offset."""
    offset: float

    @property
    def crop_share(self) -> float:
        """Share of the first photograph's area that the second does not show."""
        return max(0.0, 1.0 - self.box[2] * self.box[3])


def load_grey(file: Path, max_megapixels: float) -> Grey:
    """A photograph as luma, stretched to a square (S, S), 0 to 255.

    Raises:
        DataError: It cannot be read.
    """
    image = decode_photo(read_photo_bytes(file), max_megapixels=max_megapixels, min_side_px=2 * SIDE_PX)
    return np.asarray(image.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR), dtype=np.float32)


def align_photos(first_SS: Grey, second_SS: Grey, *, mirrored: bool, box: Box = (0.0, 0.0, 1.0, 1.0)) -> Alignment:
    """Finds the box of the first photograph that the second shows.

    Args:
        first_SS: Luma (S, S).
        second_SS: Luma (S, S).
        mirrored: Flip the second before.
        box: Of the first, to start from.
    """
    target = second_SS[:, ::-1] if mirrored else second_SS
    first, wanted = gaussian_filter(first_SS, _BLUR_PX), gaussian_filter(np.ascontiguousarray(target), _BLUR_PX)
    box, loss = _refine(_halve(first), _halve(wanted), box, _COARSE_STEPS)
    if loss < _HOPELESS:
        box, _ = _refine(first, wanted, box, _FINE_STEPS)
    warped = take_box(first, box)
    gain, offset = _fit_gain(warped, wanted)
    return Alignment(_compare_details(warped, wanted), box, mirrored, gain, offset)


def _halve(grey: Grey) -> Grey:
    half = grey.shape[0] // 2
    halved: Grey = grey.reshape(half, 2, half, 2).mean(axis=(1, 3))
    return halved


def take_box(grey: Grey, box: Box) -> Grey:
    """Resamples a box to the same (S, S), linearly; beyond the border the border's own value goes on."""
    left, top, width, height = box
    side = grey.shape[0]
    centres = (np.arange(side) + 0.5) / side
    rows = _interpolate(grey, (top + height * centres) * side - 0.5)
    return _interpolate(rows.T, (left + width * centres) * side - 0.5).T


def _interpolate(grey: Grey, place: NDArray[np.float64]) -> Grey:
    place = np.clip(place, 0.0, grey.shape[0] - 1.0)
    low = np.minimum(place.astype(np.int64), grey.shape[0] - 2)
    share = (place - low).astype(np.float32)[:, None]
    blended: Grey = grey[low] * (1.0 - share) + grey[low + 1] * share
    return blended


def _refine(first: Grey, wanted: Grey, box: Box, num_steps: int) -> tuple[Box, float]:
    """Gauss-Newton over (left, top, right, bottom, gain, offset) of wanted = gain * first(box) + offset."""
    side = first.shape[0]
    centres = ((np.arange(side) + 0.5) / side).astype(np.float32)
    target = (wanted - wanted.mean()) / (wanted.std() + 1e-3)
    best, best_box = np.inf, box
    for step in range(num_steps + 1):
        warped = take_box(first, box)
        spread = warped.std() + 1e-3
        picture = (warped - warped.mean()) / spread
        error = target - picture
        loss = float((error**2).mean())
        if loss < best:
            best, best_box = loss, box
        if step == num_steps:
            break
        slope_y, slope_x = np.gradient(picture)
        # d x / d left = 1 - u, d x / d right = u for a place u of the box; likewise in y; in px of the box's own grid.
        columns = (slope_x * (1.0 - centres), slope_x * centres, slope_y * (1.0 - centres[:, None]), slope_y * centres[:, None])
        jacobian = np.stack(
            [*(column.ravel() for column in columns), picture.ravel(), np.ones(side * side, np.float32)], axis=1
        )
        normal = jacobian.T @ jacobian
        normal[np.diag_indices(6)] *= 1.001
        move = np.linalg.lstsq(normal, jacobian.T @ error.ravel(), rcond=None)[0]
        left, top, width, height = box
        dx0, dx1, dy0, dy1 = (float(np.clip(m, -4.0, 4.0)) / side for m in move[:4])
        right, bottom = left + width + dx1 * width, top + height + dy1 * height
        left, top = left + dx0 * width, top + dy0 * height
        box = (left, top, max(_MIN_SIDE, right - left), max(_MIN_SIDE, bottom - top))
    return best_box, best


def _fit_gain(first: Grey, second: Grey) -> tuple[float, float]:
    # Clipped pixels say nothing about the gain.
    free = (second > 3.0) & (second < 252.0)
    x, y = (first[free], second[free]) if free.sum() > 16 else (first.ravel(), second.ravel())
    gain = float(((x - x.mean()) * (y - y.mean())).mean() / (x.var() + 1e-3))
    return gain, float(y.mean() - gain * x.mean())


def _compare_details(first: Grey, second: Grey) -> float:
    parts = [grey - gaussian_filter(grey, _DETAIL_PX) for grey in (first, second)]
    # The margin moves with the box and with the blur.
    a, b = (part[4:-4, 4:-4] for part in parts)
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-3 else 1.0 if float(np.abs(first - second).mean()) < 1.0 else 0.0
