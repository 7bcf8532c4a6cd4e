"""What the audit's page says of how the test photographs differ from the training photographs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from hectocar.auditing.drift import QuantityDrift, TwoSampleTest
from hectocar.auditing.page_plots import Histogram, bin_photos
from hectocar.auditing.report import AuditReport
from hectocar.dataset.decisions import DROP
from hectocar.pages.environment import format_number
from hectocar.pages.pictures import Thumb, load_thumb
from hectocar.photos.shift import apply_shift

STRIP_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The strip shows the photographs at these places in the order of brightness."""
QUIET_VERDICTS = ("none", "small", "unknown")
MAX_IN_HEADLINE, MIN_MOVED = 3, 0.2
NAMES = {
    "brightness": "brightness (mean grey level, 0 to 255)",
    "contrast": "contrast (spread of grey levels)",
    "saturation": "saturation (0: grey, 1: pure colours)",
    "sharpness": "sharpness (of details, 0: none)",
    "dark_share": "share of black pixels",
    "bright_share": "share of white pixels",
    "width_px": "width in px",
    "height_px": "height in px",
    "aspect": "width over height",
    "megapixels": "megapixels",
    "num_bytes": "size of the file in bytes",
    "bytes_per_pixel": "bytes per pixel",
    "jpeg_quality": "JPEG quality (1 to 100)",
}
PLOTTED = ("brightness", "contrast", "saturation", "sharpness", "dark_share", "bright_share", "jpeg_quality")
_WORDS = {
    "brightness": ("darker", "brighter"),
    "contrast": ("flatter", "of more contrast"),
    "saturation": ("paler", "more colourful"),
    "sharpness": ("less sharp", "sharper"),
    "jpeg_quality": ("compressed harder", "compressed less"),
    "width_px": ("narrower", "wider"),
    "height_px": ("lower", "higher"),
}


@dataclass(frozen=True)
class Strip:
    """Places of training and of test photographs, each in the order of brightness."""

    train: tuple[int, ...] = ()
    test: tuple[int, ...] = ()

    def places(self) -> list[int | None]:
        return [*self.train, *self.test]


@dataclass(frozen=True)
class DriftView:
    """What the page shows of the drift beside the report itself."""

    sentence: str
    rows: list[tuple[str, QuantityDrift, bool]]
    """(name, quantity, is it notable)."""
    plots: list[Histogram]
    curve: list[int]
    """The shift's grey level for each of 256; empty without a shift."""
    strip: Strip
    shifted: list[tuple[str, Thumb]]
    """The strip's training photographs after the shift: (file, picture)."""
    verdict: str
    """Whether a network tells the sets apart; empty without a network."""
    shares: tuple[float, ...] = STRIP_SHARES


def choose_strip(report: AuditReport) -> Strip:
    """For each of a few shares the photograph of either set at that place in the order of brightness; none without drift."""
    if report.drift is None:
        return Strip()
    dropped = {row.file for row in report.decisions if row.decision == DROP}
    brightness = report.scan.numbers("brightness")
    strips = []
    for of_train in (True, False):
        places = [
            k
            for k, name in enumerate(report.class_name)
            if bool(name) == of_train and np.isfinite(brightness[k]) and report.scan.image_id[k] not in dropped
        ]
        places.sort(key=lambda k: (brightness[k], k))
        strips.append(tuple(dict.fromkeys(places[int(share * (len(places) - 1))] for share in STRIP_SHARES if places)))
    return Strip(*strips)


def drift_sentence(report: AuditReport) -> tuple[str, bool] | None:
    """What a person should know of the test photographs, and whether they differ at all; None without them."""
    if report.drift is None:
        return None
    strong = sorted((q for q in report.drift.quantities if q.verdict not in QUIET_VERDICTS), key=lambda q: -abs(q.cohens_d))
    # A verdict may come from the shape of a distribution alone: then there is no more and no less to speak of.
    moved = [q for q in strong if q.name in _WORDS and abs(q.cohens_d) >= MIN_MOVED]
    parts = []
    for q in moved[:MAX_IN_HEADLINE]:
        word = _WORDS[q.name][q.cohens_d > 0]
        name = NAMES[q.name].partition(" (")[0]
        parts.append(f"{word} (mean {name} {format_number(q.target_mean)} against {format_number(q.ref_mean)})")
    if parts:
        return f"the test photographs are {join_words(parts)}", True
    if strong:
        return f"the test photographs differ in {join_words([_name(q) for q in strong[:MAX_IN_HEADLINE]])}", True
    return "the test photographs look like the training photographs: no measured quantity differs by more than a little", False


def describe_drift(report: AuditReport, strip: Strip) -> DriftView | None:
    """What table, histograms, fitted shift, strip and verdict of a network are drawn from; None without test photographs."""
    drift, sentence = report.drift, drift_sentence(report)
    if drift is None or sentence is None:
        return None
    fit, shifted = drift.shift, []
    if fit and strip.test and not fit.shift.is_identity:
        # At full size, as in validation: the curve and the compression act on pixels, not on averages of them.
        act = partial(apply_shift, shift=fit.shift)
        shifted = [(report.scan.image_id[k], load_thumb(report.scan, k, act)) for k in strip.train]
    return DriftView(
        sentence=sentence[0],
        rows=[(_name(q), q, q.verdict not in QUIET_VERDICTS) for q in drift.quantities],
        plots=_list_plots(report, drift.quantities),
        curve=fit.shift.tone_curve().tolist() if fit else [],
        strip=strip,
        shifted=shifted,
        verdict=_say_separation(drift.separation) if drift.separation else "",
    )


def _list_plots(report: AuditReport, quantities: Sequence[QuantityDrift]) -> list[Histogram]:
    is_train = np.array([bool(name) for name in report.class_name], dtype=bool)
    plots = []
    for q in quantities:
        if q.name not in PLOTTED:
            continue
        numbers = report.scan.numbers(q.name)
        if q.name == "jpeg_quality":
            numbers[numbers < 1] = np.nan  # no JPEG
        train, test = (part[np.isfinite(part)] for part in (numbers[is_train], numbers[~is_train]))
        if len(train) and len(test):
            plots.append(bin_photos(_name(q), (q.ref_mean, q.target_mean), train, test))
    return plots


def _say_separation(test: TwoSampleTest) -> str:
    words = (
        (0.6, "Hardly: to the network they are about the same."),
        (0.75, "A little."),
        (0.9, "Yes, mostly: expect lower scores on the test set than in validation."),
        (math.inf, "Yes, nearly always: trust the shifted validation more than the plain one, and neither fully."),
    )
    return next(word for limit, word in words if test.auc < limit) if test.differs else "No."


def _name(q: QuantityDrift) -> str:
    return NAMES.get(q.name, q.name.replace("_", " "))


def join_words(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
