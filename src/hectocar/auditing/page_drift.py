"""The part of the audit's page that says how the test photographs differ from the training photographs, and shows it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hectocar.auditing.drift import QuantityDrift, TwoSampleTest
from hectocar.auditing.page_plots import curve_svg, effect_svg, histogram_svg
from hectocar.auditing.report import AuditReport, DriftReport
from hectocar.auditing.shift_fit import ShiftFit
from hectocar.dataset.decisions import DROP
from hectocar.dataset.scan import PhotoScan
from hectocar.errors import DataError
from hectocar.pages.parts import Album, Thumb, escape, load_photo, make_thumb, picture_html
from hectocar.photos.shift import PhotoShift, apply_shift

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


def drift_html(report: AuditReport, strip: Strip, album: Album) -> str:
    """Table, histograms, fitted shift, photographs before and after it, and whether a network tells the sets apart."""
    head = '<section aria-labelledby="drift"><h2 id="drift">Test photographs against training photographs</h2>'
    drift = report.drift
    if drift is None:
        return (
            f'{head}<p class="soft">There are no readable test photographs to compare with: give --test FOLDER.</p></section>'
        )
    sentence = drift_sentence(report)
    lead = f"<p>{escape(sentence[0][0].upper() + sentence[0][1:])}.</p>" if sentence else ""
    parts = (
        _table_html(drift.quantities),
        _plots_html(report, drift.quantities),
        _shift_html(drift),
        _strip_html(report.scan, strip, drift.shift.shift if drift.shift else None, album),
        _separation_html(drift.separation),
    )
    return f"{head}{lead}{''.join(parts)}</section>"


def _table_html(quantities: Sequence[QuantityDrift]) -> str:
    if not quantities:
        return '<p class="soft">Nothing could be measured.</p>'
    rows = []
    for q in quantities:
        loud = q.verdict not in QUIET_VERDICTS
        verdict = f"<b>{escape(q.verdict)}</b>" if loud else f'<span class="soft">{escape(q.verdict)}</span>'
        effect = "–" if math.isnan(q.cohens_d) else f"{q.cohens_d:+.2f}".replace("-", "−")
        rows.append(
            f'<tr><th scope="row">{escape(_name(q))}</th><td class="num">{format_number(q.ref_mean)}</td>'
            f'<td class="num">{format_number(q.target_mean)}</td><td class="num">{effect}</td>'
            f"<td>{effect_svg(q.cohens_d, loud)}</td><td>{verdict}</td></tr>"
        )
    return (
        '<p class="note">Means. The effect is Cohen’s d, the difference in standard deviations: above 0, the test photographs '
        "have more. The verdict also counts a change of spread or shape.</p>"
        '<div class="scroll"><table class="files"><thead><tr><th scope="col">quantity</th>'
        '<th scope="col" class="num">training</th><th scope="col" class="num">test</th>'
        '<th scope="col" class="num">effect</th><th scope="col">−2 to +2</th><th scope="col">verdict</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _plots_html(report: AuditReport, quantities: Sequence[QuantityDrift]) -> str:
    is_train = np.array([bool(name) for name in report.class_name], dtype=bool)
    figures = []
    for q in quantities:
        if q.name not in PLOTTED:
            continue
        numbers = report.scan.numbers(q.name)
        if q.name == "jpeg_quality":
            numbers[numbers < 1] = np.nan  # no JPEG
        train, test = (part[np.isfinite(part)] for part in (numbers[is_train], numbers[~is_train]))
        if not len(train) or not len(test):
            continue
        alt = (
            f"Histogram of {_name(q)}: means {format_number(q.ref_mean)} in training and {format_number(q.target_mean)} in test"
        )
        plot = histogram_svg(train, test, alt)
        figures.append(f"<figure><figcaption><b>{escape(_name(q))}</b></figcaption>{plot}</figure>")
    if not figures:
        return ""
    key = '<span class="key"></span>training &#160; <span class="key line"></span>test'
    return f'<h3>How the quantities are spread</h3><p class="note">{key}</p><div class="plots">{"".join(figures)}</div>'


def _shift_html(drift: DriftReport) -> str:
    head = "<h3>The shift that makes a training photograph look like a test photograph</h3>"
    fit = drift.shift
    if fit is None:
        reason = drift.shift_source or "too few photographs"
        return f'{head}<p class="soft">It could not be fitted: {escape(reason)}.</p>'
    source = f'<p class="note">Fitted on {escape(drift.shift_source)}.</p>'
    if fit.shift.is_identity:
        return f"{head}<p>None: neither the grey levels nor the compression differ.</p>{source}"
    curve = fit.shift.tone_curve()
    alt = f"Tone curve: grey level 64 becomes {curve[64]}, 128 becomes {curve[128]}, 192 becomes {curve[192]}"
    words = f"A middle grey of 128 becomes {curve[128]}. Training checks itself on photographs shifted this way, "
    words += "beside the plain ones."
    return f'{head}<p>{words}</p>{source}<div class="fit">{curve_svg(curve, alt)}<div>{_fit_html(fit)}</div></div>'


def _fit_html(fit: ShiftFit) -> str:
    shift = fit.shift
    quality = f"{shift.jpeg_quality}" if shift.jpeg_quality else "left alone"
    lines = (
        ("gain", f"{shift.gain:.3f}", f"± {fit.gain_spread:.3f}"),
        ("offset in grey levels", f"{shift.offset:+.1f}", f"± {fit.offset_spread:.1f}"),
        ("gamma", f"{shift.gamma:.3f}", f"± {fit.gamma_spread:.3f}"),
        ("JPEG quality", quality, f"training {fit.ref_quality or 'none'}, test {fit.target_quality or 'none'}"),
    )
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td class="num">{value}</td><td class="soft">{spread}</td></tr>'
        for name, value, spread in lines
    )
    heads = '<th scope="col">parameter</th><th scope="col" class="num">value</th><th scope="col">spread</th>'
    words = f"Grey levels of the two sets lie {fit.distance_before:.1f} apart before the shift "
    words += f"and {fit.distance_after:.1f} after it"
    words += f"; two samples of one set would lie {fit.distance_noise:.1f} apart." if fit.distance_noise else "."
    table = f'<table class="files"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    return f'{table}<p class="note">{words} The spread is what all three parameters have when left free.</p>'


def _strip_html(scan: PhotoScan, strip: Strip, shift: PhotoShift | None, album: Album) -> str:
    if not strip.train or not strip.test:
        return ""
    rows = [("training, as it is", [album.picture(k, scan.image_id[k]) for k in strip.train])]
    if shift is not None and not shift.is_identity:
        shifted = [picture_html(_shift_thumb(scan, k, shift), f"{scan.image_id[k]} after the shift") for k in strip.train]
        rows.append(("training, after the shift", shifted))
    rows.append(("test", [album.picture(k, scan.image_id[k]) for k in strip.test]))
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{picture}</td>" for picture in pictures)}</tr>'
        for name, pictures in rows
    )
    shares = "".join(f'<th scope="col">{share:.0%} are darker</th>' for share in STRIP_SHARES)
    note = "Each column shows the photographs at the same place in the order of brightness, each in its own set."
    note += " After a good shift, a training photograph is about as bright as the test photograph below it." if shift else ""
    return (
        f'<h3>Side by side</h3><p class="note">{note}</p><div class="scroll"><table class="strip"><thead><tr>'
        f'<th scope="col">photographs</th>{shares}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _shift_thumb(scan: PhotoScan, place: int, shift: PhotoShift) -> Thumb:
    try:  # at full size, as in validation: the curve and the compression act on pixels, not on averages of them
        return make_thumb(apply_shift(load_photo(scan, place), shift))
    except DataError as error:
        return Thumb(problem=str(error).replace(f"{scan.root / scan.path[place]}: ", ""))


def _separation_html(test: TwoSampleTest | None) -> str:
    head = "<h3>Does a network tell the two sets apart?</h3>"
    if test is None:
        return f'{head}<p class="soft">Not looked for: needs a network (--weights FILE or --run RUN).</p>'
    words = (
        (0.6, "Hardly: to the network they are about the same."),
        (0.75, "A little."),
        (0.9, "Yes, mostly: expect lower scores on the test set than in validation."),
        (math.inf, "Yes, nearly always: trust the shifted validation more than the plain one, and neither fully."),
    )
    word = next(word for limit, word in words if test.auc < limit) if test.differs else "No."
    return (
        f"{head}<p><b>{word}</b> A classifier on its embeddings tells a test photograph from a training photograph "
        f'with an AUC of <span class="num">{test.auc:.3f} ± {test.auc_se:.3f}</span> (0.5: not at all, 1: always).</p>'
    )


def _name(q: QuantityDrift) -> str:
    return NAMES.get(q.name, q.name.replace("_", " "))


def format_number(value: float) -> str:
    """Three digits, and no exponent where a person would write none."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def join_words(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
