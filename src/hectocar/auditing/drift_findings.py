"""The drift from the training to the test photographs, and the shift that makes the one like the other."""

import numpy as np
from numpy.typing import NDArray

from hectocar.auditing.drift import compare_quantities, two_sample_auc
from hectocar.auditing.pixel_sample import sample_pixels
from hectocar.auditing.report import DriftReport
from hectocar.auditing.shift_fit import ShiftFit, fit_shift
from hectocar.config.schema import DataConfig
from hectocar.dataset.scan import PhotoScan
from hectocar.errors import DataError
from hectocar.progress import Progress, count_with

MEASURED = (
    "brightness", "contrast", "saturation", "sharpness", "dark_share", "bright_share", "width_px", "height_px",
    "num_bytes", "jpeg_quality",
)  # fmt: skip
_SEED = 2025


def measure_drift(
    scan: PhotoScan,
    label_N: NDArray[np.int64],
    embeddings_ND: NDArray[np.float32] | None,
    config: DataConfig,
    progress: Progress,
) -> DriftReport | None:
    """Compares the rows with a class to those without; None where a side has no readable photograph.

    Args:
        scan: Training and test photographs.
        label_N: Class of each row, -1 for the test set.
        embeddings_ND: One row per photograph, or None.
        config: Limits and threads.
        progress: Receives bars.
    """
    readable = scan.readable()
    train, test = readable[label_N[readable] >= 0], readable[label_N[readable] < 0]
    if len(train) == 0 or len(test) == 0:
        return None
    columns = _columns(scan)
    quantities = compare_quantities(
        list(columns),
        {name: values[train] for name, values in columns.items()},
        {name: values[test] for name, values in columns.items()},
    )
    separation = None
    if embeddings_ND is not None and min(len(train), len(test)) >= 10:
        separation = two_sample_auc(embeddings_ND[train], embeddings_ND[test], seed=_SEED)
    shift, source = _fit(scan, (train, test), config, progress)
    return DriftReport(quantities, shift, source, separation)


def _columns(scan: PhotoScan) -> dict[str, NDArray[np.float64]]:
    columns = {name: scan.numbers(name) for name in MEASURED}
    width, height = columns["width_px"], columns["height_px"]
    quality = columns["jpeg_quality"]
    return columns | {
        "jpeg_quality": np.where(quality > 0, quality, np.nan),
        "aspect": width / height,
        "megapixels": width * height / 1e6,
        "bytes_per_pixel": columns["num_bytes"] / (width * height),
    }


def _fit(
    scan: PhotoScan, sides: tuple[NDArray[np.int64], NDArray[np.int64]], config: DataConfig, progress: Progress
) -> tuple[ShiftFit | None, str]:
    files = scan.files()
    samples = [
        sample_pixels(
            [files[k] for k in side], seed=_SEED, max_megapixels=config.max_megapixels,
            num_workers=config.num_workers, on_photo=count_with(progress, f"sampling the pixels of the {name} photographs"),
        )
        for side, name in zip(sides, ("training", "test"), strict=True)
    ]  # fmt: skip
    try:
        fit = fit_shift(samples[0], samples[1], seed=_SEED)
    except DataError as error:  # too few photographs for a fit are no reason to give no audit
        return None, str(error)
    return fit, f"the pixels of {fit.num_ref} training and {fit.num_target} test photographs"
