"""How far two sets of photographs differ: quantity by quantity, and as a whole by a classifier that tells them apart.

Legend: N reference and M target photographs, D features.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ks_2samp, norm, rankdata
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from hectocar.errors import DataError

Floats = NDArray[np.float64]

VERDICTS = (("large", 0.8), ("medium", 0.5), ("small", 0.2))
"""Standardised differences from which a drift deserves the word (Cohen 1988, section 2.2)."""
MAX_COHENS_D = 20.0
"""Stands for infinity where neither set varies and they differ."""
_MAX_CHANCE = 0.001
"""A Kolmogorov-Smirnov distance that chance reaches more often is no drift: a dozen quantities are looked at together."""
_EXACT_BELOW = 200
_MAX_PER_SIDE, _MAX_COMPONENTS = 4000, 256
_PENALTY = 0.1


@dataclass(frozen=True)
class QuantityDrift:
    """One quantity on both sides. Statistics are NaN and the verdict ``unknown`` with fewer than two values on a side."""

    name: str
    num_ref: int
    """Finite values; the statistics are about these."""
    num_target: int
    num_ref_missing: int
    """NaN or infinite."""
    num_target_missing: int
    ref_mean: float
    target_mean: float
    ref_median: float
    target_median: float
    cohens_d: float
    """(target mean - reference mean) / pooled standard deviation, within +-20."""
    cohens_d_se: float
    """Standard error (Hedges & Olkin 1985, eq. 5.14)."""
    ks_distance: float
    """Kolmogorov-Smirnov: the largest difference of the two cumulative distributions, 0 to 1."""
    superiority: float
    """Chance that a target photograph has more of it than a reference photograph, ties halved; 0.5: no difference."""
    verdict: str
    """none, small, medium, large: by the larger of |d| and the d of two normal distributions with this KS distance, so that
    a change of spread or shape counts too; none where chance explains the KS distance."""


@dataclass(frozen=True)
class TwoSampleTest:
    """How well a classifier tells the two sets apart."""

    auc: float
    """Out of fold; 0.5: not at all."""
    auc_se: float
    """Standard error (DeLong et al. 1988 in a fold; Nadeau & Bengio 2003 over folds)."""
    num_ref: int
    """Photographs used."""
    num_target: int
    num_features: int
    """After PCA."""

    @property
    def differs(self) -> bool:
        """The AUC is above 0.5 by more than two standard errors."""
        return self.auc > 0.5 + 2.0 * self.auc_se


def compare_quantities(
    names: Sequence[str], ref: Mapping[str, ArrayLike], target: Mapping[str, ArrayLike]
) -> tuple[QuantityDrift, ...]:
    """Compares each quantity of two sets of photographs.

    Args:
        names: Keys of both, in the order of the result.
        ref: Values (N,) by name; NaN where a photograph has none.
        target: Values (M,) by name.

    Raises:
        DataError: A name is missing on a side.
    """
    for side, values in (("reference", ref), ("target", target)):
        missing = [name for name in names if name not in values]
        if missing:
            raise DataError(f"drift: the {side} set has no {', '.join(missing)}; allowed: {', '.join(values) or 'nothing'}")
    return tuple(_compare(name, _to_vector(ref[name]), _to_vector(target[name])) for name in names)


def _to_vector(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).ravel()


def _compare(name: str, ref_N: Floats, target_M: Floats) -> QuantityDrift:
    ref, target = ref_N[np.isfinite(ref_N)], target_M[np.isfinite(target_M)]
    counts = (len(ref), len(target), len(ref_N) - len(ref), len(target_M) - len(target))
    if min(len(ref), len(target)) < 2:
        nan = math.nan
        return QuantityDrift(name, *counts, nan, nan, nan, nan, nan, nan, nan, nan, "unknown")
    d = _cohens_d(ref, target)
    d_se = math.sqrt((len(ref) + len(target)) / (len(ref) * len(target)) + d**2 / (2.0 * (len(ref) + len(target))))
    # The asymptotic law calls two values against two other values a drift.
    ks = ks_2samp(ref, target, method="exact" if len(ref) + len(target) < _EXACT_BELOW else "asymp")
    # Two normal distributions that lie d apart have the KS distance 2 Phi(d / 2) - 1.
    d_of_ks = 2.0 * float(norm.ppf((1.0 + min(float(ks.statistic), 1.0 - 1e-9)) / 2.0))
    effect = max(abs(d), d_of_ks) if ks.pvalue < _MAX_CHANCE else 0.0
    return QuantityDrift(
        name,
        *counts,
        ref_mean=float(ref.mean()),
        target_mean=float(target.mean()),
        ref_median=float(np.median(ref)),
        target_median=float(np.median(target)),
        cohens_d=d,
        cohens_d_se=d_se,
        ks_distance=float(ks.statistic),
        superiority=_auc(ref, target)[0],
        verdict=next((word for word, least in VERDICTS if effect >= least), "none"),
    )


def _cohens_d(ref: Floats, target: Floats) -> float:
    difference = float(target.mean() - ref.mean())
    freedom = len(ref) + len(target) - 2
    pooled = math.sqrt(((len(ref) - 1) * float(ref.var(ddof=1)) + (len(target) - 1) * float(target.var(ddof=1))) / freedom)
    # Means of equal values differ by rounding.
    if abs(difference) <= 1e-12 * (abs(float(ref.mean())) + abs(float(target.mean()))):
        return 0.0
    return (
        float(np.clip(difference / pooled, -MAX_COHENS_D, MAX_COHENS_D)) if pooled else math.copysign(MAX_COHENS_D, difference)
    )


def _auc(ref: Floats, target: Floats) -> tuple[float, float]:
    """P(target > ref) + P(equal) / 2 and its variance, by ranks (Sun & Xu 2014 for DeLong's placements)."""
    num_ref, num_target = len(ref), len(target)
    ranks = rankdata(np.concatenate([ref, target]))
    above_M = (ranks[num_ref:] - rankdata(target)) / num_ref
    below_N = 1.0 - (ranks[:num_ref] - rankdata(ref)) / num_target
    variance = float(above_M.var(ddof=1)) / num_target + float(below_N.var(ddof=1)) / num_ref
    # Rounded, so that equal sets have exactly 0.5.
    return round(float(above_M.mean()), 12), variance


def two_sample_auc(ref_ND: ArrayLike, target_MD: ArrayLike, *, seed: int, num_folds: int = 5) -> TwoSampleTest:
    """Trains a classifier to tell the sets apart and reports its AUC on photographs that it was not trained on.

    A regularised logistic regression on up to 256 whitened principal components (Lopez-Paz & Oquab 2017, classifier
    two-sample tests). At most 4000 photographs a side are used, drawn by the seed. The components come from both sets
    without their labels, so they tell the classifier nothing about the folds.

    Args:
        ref_ND: Features, such as embeddings.
        target_MD: Of the other set.
        seed: Of the subsample and the folds.
        num_folds: At least 2.

    Raises:
        DataError: Different features, values that are not finite, or fewer than two photographs per fold on a side.
    """
    rng = np.random.default_rng(seed)
    ref, target = (_draw(np.asarray(features, dtype=np.float32), rng) for features in (ref_ND, target_MD))
    if ref.ndim != 2 or target.ndim != 2 or ref.shape[1] != target.shape[1] or not ref.shape[1]:
        raise DataError(f"two-sample test: features {ref.shape} and {target.shape}; allowed: (N, D) and (M, D) with one D")
    if num_folds < 2 or min(len(ref), len(target)) < 2 * num_folds:
        raise DataError(
            f"two-sample test: {len(ref)} and {len(target)} photographs in {num_folds} folds; "
            "allowed: 2 or more folds with 2 or more photographs of each set"
        )
    features = np.concatenate([ref, target]).astype(np.float64)
    if not np.isfinite(features).all():
        raise DataError("two-sample test: a feature is NaN or infinite; allowed: finite numbers")
    is_target = np.repeat([False, True], [len(ref), len(target)])
    reduced = _reduce(features, seed)
    aucs, variances = [], []
    for train, held_out in StratifiedKFold(num_folds, shuffle=True, random_state=seed).split(reduced, is_target):
        model = LogisticRegression(C=_PENALTY, max_iter=500).fit(reduced[train], is_target[train])
        # Scores of different folds' models are not comparable: the AUC is taken within each fold.
        logits, held_target = model.decision_function(reduced[held_out]), is_target[held_out]
        auc, variance = _auc(logits[~held_target], logits[held_target])
        aucs.append(auc)
        variances.append(variance)
    # Folds share their training photographs: taken as independent, they gave two thirds of the real error.
    error = math.sqrt(float(np.mean(variances)) * (1.0 / num_folds + 1.0 / (num_folds - 1)))
    return TwoSampleTest(float(np.mean(aucs)), error, len(ref), len(target), reduced.shape[1])


def _draw(features: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    if len(features) <= _MAX_PER_SIDE:
        return features
    return features[np.sort(rng.choice(len(features), _MAX_PER_SIDE, replace=False))]


def _reduce(features: Floats, seed: int) -> Floats:
    """Standardised columns, or their principal components of unit variance; at most a tenth as many as photographs."""
    spread = features.std(axis=0)
    spread[spread < 1e-9] = np.inf  # a constant says nothing
    standard = (features - features.mean(axis=0)) / spread
    num_components = max(1, min(_MAX_COMPONENTS, len(features) // 10))
    if standard.shape[1] <= num_components:
        return np.asarray(standard)
    components = PCA(num_components, svd_solver="randomized", random_state=seed).fit_transform(standard)
    return np.asarray(components / np.maximum(components.std(axis=0), 1e-9))
