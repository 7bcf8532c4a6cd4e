"""Fits the shift between two sets of photographs from the distributions of their values.

A rising curve carries quantiles into quantiles: the table of quantiles of the one set, passed through the true curve, is
that of the other, and clipping at 0 and 255 is a part of the curve. The compression after it is not. It smears values away
from 0 and 255, which alone made offsets of -25 into -11, so the fit shifts and compresses patches of the reference set and
takes what that moves into account (method of simulated moments, McFadden 1989). Legend: N photographs, U quantile levels
within a photograph, P over photographs, M = P * U points of the curve, B bootstrap samples, K parameters (log
gain, offset / 255, log gamma).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import least_squares
from scipy.stats import ks_2samp

from hectocar.auditing.pixel_sample import (
    LEVELS,
    PixelSample,
    photo_quantiles,
    quantiles_down,
)
from hectocar.errors import DataError
from hectocar.photos.shift import Floats, PhotoShift, apply_shift, bend_levels, to_shift

PHOTO_LEVELS = np.linspace(0.03, 0.97, 17)
"""Quantile levels over photographs."""
MIN_PHOTOS, MIN_PAIRS = 10, 5
NUM_BOOTSTRAP = 100
_MAX_STEPS = 6
_LOW_K, _HIGH_K = np.array([math.log(0.1), -0.7, math.log(0.2)]), np.array([math.log(5.0), 0.7, math.log(5.0)])
_SCALE_K = np.array([0.1, 0.05, 0.1])
_STARTS = np.array([[0.0, 0.0, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.0, 0.5], [0.2, -0.05, -0.4], [-0.2, 0.1, 0.3]])
_NAMES, _FULL = ("gain", "offset", "gamma"), (0, 1, 2)
_FORMS = [form for count in range(4) for form in itertools.combinations(_FULL, count)]
_POINT_ERROR = 3.0
"""Grey levels that no point of the curve is trusted beyond: rounding, the model of the compression, shifts that vary
between photographs. Of 1 to 6 tried on cars196, all fit known shifts alike and 3 the real one best."""
_ERROR_K = np.array([0.004, 0.6 / 255, 0.006])
"""Error of the parameters that more photographs do not remove."""
_RIDGE_K = np.array([2.0, 1.0, 2.0])
"""Pull to the identity: felt only where the photographs say nothing, as with sets of one grey each."""
_PRICE = 2.0
"""Times BIC's price: the bootstrap's spread is too small by about half where the sets' contents differ."""
_MIN_QUALITY_DISTANCE = 0.3


@dataclass(frozen=True)
class ShiftFit:
    """A fitted shift and how far to trust it. Distances are in grey levels: 1-D Wasserstein over photographs, averaged over
    ``LEVELS``."""

    shift: PhotoShift
    form: str
    """The parameters that the data call for, joined by ``+``; the others are left at the identity. ``none``: no shift."""
    gain_spread: float
    """Standard deviations over bootstrap samples of photographs, all three parameters left free: how well they can be told
    apart, so those of a simpler ``form`` are surer than this."""
    offset_spread: float
    gamma_spread: float
    distance_before: float
    distance_after: float
    distance_noise: float
    """What two samples of this size differ by with no shift between them; a larger ``distance_after`` is a drift in
    content, or a shift that varies between photographs."""
    ref_quality: int
    """Median JPEG quality; 0 without JPEGs."""
    target_quality: int
    num_ref: int
    num_target: int


def _solve(form: tuple[int, ...], x: Floats, y: Floats, weight: Floats, starts: Floats) -> Floats:
    """Robust least squares of y against curve(x) over the parameters of a form, the best over several starts."""
    free = list(form)

    def residuals(free_params: Floats) -> Floats:
        params_K = np.zeros(3)
        params_K[free] = free_params
        misfit = (bend_levels(params_K, x) - y).ravel()
        return np.concatenate([weight @ misfit if weight.ndim else weight * misfit, free_params / _RIDGE_K[free]])

    best_K = np.zeros(3)
    if free:
        low, high = _LOW_K[free], _HIGH_K[free]
        options = {"bounds": (low, high), "x_scale": _SCALE_K[free], "loss": "soft_l1", "f_scale": 3.0}
        fits = [least_squares(residuals, np.clip(start[free], low, high), **options) for start in np.atleast_2d(starts)]
        best_K[free] = min(fits, key=lambda fit: float(fit.cost)).x
    return best_K


def _tables(sample: PixelSample, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(M,) quantiles over photographs of the quantiles within, and (B, M) of bootstrap samples of photographs."""
    draws = rng.integers(0, len(sample), (NUM_BOOTSTRAP, len(sample)))
    return _flat_table(sample.quantiles_NU), np.array([_flat_table(sample.quantiles_NU[draw]) for draw in draws])


def _flat_table(quantiles_NU: Floats) -> Floats:
    return quantiles_down(quantiles_NU, PHOTO_LEVELS).ravel()


def fit_shift(reference: PixelSample, target: PixelSample, *, seed: int = 0) -> ShiftFit:
    """Fits the shift that makes the reference photographs' values distributed like the target's.

    Each quantile (over photographs) of each quantile (within them) is a point of the curve; the points are weighted by the
    inverse of their covariance, so that content in which the two sets differ by chance counts little. The simplest form
    that agrees with the unrestricted curve is taken: by the Wald statistic, under the bootstrap's covariance, with a price
    of log(number of photographs) per parameter as in BIC (Schwarz 1978).

    Args:
        reference: The set to be shifted.
        target: The set to be like.
        seed: Of the bootstrap.

    Raises:
        DataError: Fewer than 10 readable photographs on a side.
    """
    for name, sample in (("reference", reference), ("target", target)):
        if len(sample) < MIN_PHOTOS:
            raise DataError(f"shift: {len(sample)} readable photographs in the {name} set; allowed: {MIN_PHOTOS} or more")
    rng = np.random.default_rng(seed)
    (ref_M, ref_BM), (target_M, target_BM) = _tables(reference, rng), _tables(target, rng)
    params_K, smear_M = np.zeros(3), np.zeros_like(ref_M)
    for step in range(_MAX_STEPS):
        weight_MM = _weigh(params_K, ref_BM, target_BM)
        last_K = params_K
        params_K = _solve(_FULL, ref_M, target_M - smear_M, weight_MM, last_K if step else _STARTS)
        smear_M = _simulate_smear(params_K, reference.patches, target.jpeg_quality_N)
        if step and np.abs((params_K - last_K) / _SCALE_K).max() < 0.02:
            break
    resampled = zip(ref_BM, target_BM - smear_M, strict=True)
    covariance_KK = np.cov(np.array([_solve(_FULL, x, y, weight_MM, params_K) for x, y in resampled]).T)
    form = _choose_form(params_K, covariance_KK, min(len(reference), len(target)))
    chosen_K = _solve(form, ref_M, target_M - smear_M, weight_MM, np.array([params_K, np.zeros(3)]))
    noise = bend_levels(params_K, ref_BM) - bend_levels(params_K, ref_M) - (target_BM - target_M)
    distances = (ref_M - target_M, bend_levels(chosen_K, ref_M) + smear_M - target_M, noise)
    return _describe(chosen_K, form, covariance_KK, distances, (reference.jpeg_quality_N, target.jpeg_quality_N))


def _weigh(params_K: Floats, ref_BM: Floats, target_BM: Floats) -> Floats:
    """(M, M) square root of the inverse of the covariance of the points."""
    shifted_BM = bend_levels(params_K, ref_BM)
    covariance_MM = sum(np.cov(table_BM.T, bias=True) for table_BM in (shifted_BM, target_BM))
    variance_M, basis_MM = np.linalg.eigh(covariance_MM + _POINT_ERROR**2 * np.eye(len(ref_BM[0])))
    return np.asarray((basis_MM / np.sqrt(variance_M)) @ basis_MM.T)


def _simulate_smear(params_K: Floats, patches: Sequence[NDArray[np.uint8]], jpeg_quality_N: NDArray[np.int64]) -> Floats:
    """(M,) what compression adds to the curve at the target's qualities; 0 where the target is not mostly JPEG."""
    if not patches or np.median(jpeg_quality_N) < 1:
        return np.zeros(len(PHOTO_LEVELS) * len(LEVELS))
    qualities = np.quantile(jpeg_quality_N[jpeg_quality_N > 0], (np.arange(len(patches)) + 0.5) / len(patches)).astype(int)
    plain, compressed = [], []
    for patch, quality in zip(patches, np.random.default_rng(0).permutation(qualities), strict=True):
        shifted = apply_shift(Image.fromarray(patch), to_shift(params_K, int(quality)))
        compressed.append(photo_quantiles(np.asarray(shifted)))
        plain.append(bend_levels(params_K, photo_quantiles(patch)))
    return _flat_table(np.array(compressed)) - _flat_table(np.array(plain))


def _choose_form(params_K: Floats, covariance_KK: Floats, num_photos: int) -> tuple[int, ...]:
    covariance_KK = covariance_KK + np.diag(_ERROR_K**2)

    def price(form: tuple[int, ...]) -> float:
        fixed = [k for k in _FULL if k not in form]
        wald = params_K[fixed] @ np.linalg.solve(covariance_KK[np.ix_(fixed, fixed)], params_K[fixed]) if fixed else 0.0
        return float(wald) + len(form) * _PRICE * math.log(num_photos)

    return min(_FORMS, key=price)


def _describe(
    params_K: Floats,
    form: tuple[int, ...],
    covariance_KK: Floats,
    distances: Sequence[Floats],
    qualities: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> ShiftFit:
    spread_K = np.sqrt(np.diag(covariance_KK)) * [1.0, 255.0, 1.0] * np.exp(params_K * [1.0, 0.0, 1.0])
    before, after, noise = (float(np.abs(distance).mean()) for distance in distances)
    ref_quality, target_quality = (int(np.median(q[q > 0])) if (q > 0).any() else 0 for q in qualities)
    return ShiftFit(
        shift=to_shift(params_K, target_quality if _qualities_differ(*qualities) else 0),
        form="+".join(_NAMES[k] for k in form) or "none",
        gain_spread=float(spread_K[0]),
        offset_spread=float(spread_K[1]),
        gamma_spread=float(spread_K[2]),
        distance_before=before,
        distance_after=after,
        distance_noise=noise,
        ref_quality=ref_quality,
        target_quality=target_quality,
        num_ref=len(qualities[0]),
        num_target=len(qualities[1]),
    )


def _qualities_differ(ref_N: NDArray[np.int64], target_N: NDArray[np.int64]) -> bool:
    ref_N, target_N = ref_N[ref_N > 0], target_N[target_N > 0]
    if min(len(ref_N), len(target_N)) < MIN_PAIRS:
        return False
    test = ks_2samp(ref_N, target_N, method="exact" if len(ref_N) + len(target_N) < 50 else "asymp")
    return bool(test.pvalue < 0.01 and test.statistic >= _MIN_QUALITY_DISTANCE)
