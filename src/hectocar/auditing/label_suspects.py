"""Photographs whose folder probably names the wrong car, by the predictions of networks that never saw them.

Legend: N photographs, G trained classes, S suspects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_softmax

from hectocar.calibration.neighbours import find_neighbours

Floats = NDArray[np.floating]

MARGIN_WEIGHT = 2.0
"""Weight of the margin beside the log odds.

Measured with 1.6 to 3 % of the labels of 2,540 real photographs turned, out of fold at 70 % top-1. Labels turned at random
are found equally well from 0 to 3; those turned to the class that is most often confused are found more often (recall
0.45 without the margin, 0.49 with weight 2, 0.51 with 4), but weight 6 costs random ones.
"""
_MIN_PROB = 1e-12


@dataclass(frozen=True)
class LabelNoise:
    """What makes the given labels most likely: probs ** (1 / temperature), and labels drawn blindly at a rate."""

    temperature: float
    rate: float
    """Share of wrong labels, 0 to 1."""


@dataclass(frozen=True)
class LabelSuspects:
    """Photographs whose label is contradicted, the surest first; the first ``num_errors`` are worth a look."""

    row: NDArray[np.int64]
    """(S,) row of ``probs_NG``, each once; all rows whose most probable class is not the given one."""
    score: NDArray[np.float64]
    """(S,) in [0, 1], falling: 1 surely wrong. They add up to the estimated number of errors."""
    suggested: NDArray[np.int64]
    """(S,) class that the photograph more likely shows."""
    is_confident: NDArray[np.bool_]
    """(S,) whether the suggested class is at least as probable as that class's own photographs find it on the mean: the
    threshold of the confident joint (Northcutt et al. 2021, eq. 2)."""
    reason: tuple[str, ...]
    num_errors: int
    """Estimated number of wrong labels among the N; photographs without a car count among them."""


def fit_label_noise(probs_NG: Floats, labels_N: NDArray[np.int64]) -> LabelNoise:
    """Maximum likelihood of ``(1 - rate) * probs[label] + rate / G`` over temperature and rate.

    Northcutt et al. 2021 ("Confident learning", eq. 1: confident joint) count as an error each photograph that is more
    probably of another class than that class's photographs usually are. A network of 68 % top-1 confuses ten times as many
    cars as there are wrong labels, and their count follows it: 182 where 27 were seen by eye, against 27 here.
    """
    log_probs_NG = np.log(np.maximum(probs_NG, _MIN_PROB, dtype=np.float64))
    rows, even = np.arange(len(labels_N)), 1.0 / probs_NG.shape[1]

    def loss(parameters: NDArray[np.float64]) -> float:
        log_scale, logit_rate = parameters
        own_N = np.exp(log_softmax(log_probs_NG * np.exp(log_scale), axis=1)[rows, labels_N])
        rate = expit(logit_rate)
        return float(-np.log((1.0 - rate) * own_N + rate * even).mean())

    # Bounds: a network without an error would otherwise walk to a temperature of 0 and a rate of exactly 0.
    fit = minimize(
        loss,
        np.array([0.0, -4.0]),
        method="Nelder-Mead",
        bounds=[(-3.0, 3.0), (-14.0, 2.0)],
        options={"xatol": 1e-3, "fatol": 1e-8},
    )
    return LabelNoise(temperature=float(np.exp(-fit.x[0])), rate=float(expit(fit.x[1])))


def compute_neighbour_probs(
    embed_ND: Floats, labels_N: NDArray[np.int64], space_N: NDArray[np.int64], num_classes: int, *, num_neighbours: int = 10
) -> NDArray[np.float64]:
    """Share of each class among the photographs that look most alike.

    Args:
        embed_ND: Of any length; compared by cosine.
        labels_N: Given class of each photograph.
        space_N: Number of the network (fold) that made each embedding: only those of one network can be compared.
        num_classes: G.
        num_neighbours: Fewer are taken where a space has fewer; the photograph itself is none of them.

    Returns:
        (N, G); a row is zero where a photograph is alone in its space.
    """
    shares_NG = np.zeros((len(labels_N), num_classes))
    for space in np.unique(space_N):
        rows = np.flatnonzero(space_N == space)
        num_taken = min(num_neighbours, len(rows) - 1)
        if num_taken < 1:
            continue
        own = np.arange(len(rows))
        found = find_neighbours(embed_ND[rows], embed_ND[rows], num_taken, query_group_Q=own, bank_group_B=own)
        np.add.at(shares_NG, (rows[:, None], found.take_labels(labels_N[rows])), 1.0 / num_taken)
    return shares_NG


def rank_label_suspects(
    probs_NG: Floats,
    labels_N: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    neighbour_probs_NG: Floats | None = None,
    subcenter_angle_N: Floats | None = None,
) -> LabelSuspects:
    """Ranks labels by log(p suggested / p given) + MARGIN_WEIGHT * (p suggested - p given).

    The log odds find labels that are wrong at random, the margin those that were confused with a similar car.

    Args:
        probs_NG: Out-of-fold probabilities: no network may have been trained on the photograph that it judges.
        labels_N: Given class of each photograph.
        class_names: G names for the reasons.
        neighbour_probs_NG: Of ``compute_neighbour_probs``. It goes into the reasons only: mixed into the probabilities it
            changed the measured recalls by -8 to +3 points, and better for no case without being worse for another.
        subcenter_angle_N: Angle to the given class's dominant sub-center in radians; for the reasons only, likewise.

    Raises:
        ValueError: Arrays that do not fit each other, or values that are no probabilities.
    """
    _check_shapes(probs_NG, labels_N, class_names)
    if not len(labels_N):
        empty = np.zeros(0, dtype=np.int64)
        return LabelSuspects(empty, np.zeros(0), empty, np.zeros(0, dtype=np.bool_), (), 0)
    noise = fit_label_noise(probs_NG, labels_N)
    log_probs_NG = np.log(np.maximum(probs_NG, _MIN_PROB, dtype=np.float64)) / noise.temperature
    probs_NG = np.exp(log_softmax(log_probs_NG, axis=1))
    all_rows = np.arange(len(labels_N))
    best_N, own_N = probs_NG.argmax(axis=1), np.maximum(probs_NG[all_rows, labels_N], _MIN_PROB)
    most_N = probs_NG[all_rows, best_N]
    row = np.flatnonzero(best_N != labels_N)
    strength = (np.log(most_N / own_N) + MARGIN_WEIGHT * (most_N - own_N))[row]
    order = np.argsort(-strength, kind="stable")
    row, strength = row[order], strength[order]
    count_G = np.maximum(np.bincount(labels_N, minlength=len(class_names)), 1)
    self_prob_G = np.bincount(labels_N, weights=own_N, minlength=len(class_names)) / count_G
    is_confident = most_N[row] >= self_prob_G[best_N[row]]
    num_errors = min(noise.rate * len(labels_N), float(len(row)))
    reasons = [f"p={own_N[r]:.3f} for its folder, p={most_N[r]:.2f} for {class_names[best_N[r]]}" for r in row]
    if neighbour_probs_NG is not None:
        shares = [(neighbour_probs_NG[r, labels_N[r]], neighbour_probs_NG[r, best_N[r]]) for r in row]
        reasons = [
            f"{text}; of the photographs most like it {own:.0%} are of its folder, {other:.0%} of the other"
            for text, (own, other) in zip(reasons, shares, strict=True)
        ]
    if subcenter_angle_N is not None:
        reasons = [
            f"{text}; {np.degrees(subcenter_angle_N[r]):.0f} degrees off its class"
            for text, r in zip(reasons, row, strict=True)
        ]
    scores = _calibrate(strength, num_errors)
    return LabelSuspects(row, scores, best_N[row], is_confident, tuple(reasons), round(num_errors))


def _calibrate(strength: NDArray[np.float64], num_errors: float) -> NDArray[np.float64]:
    """Scores in (0, 1) in the order of ``strength`` that add up to ``num_errors``."""
    if not len(strength):
        return strength
    wanted = min(max(num_errors, 1e-6), len(strength) - 1e-6)
    low, high = strength.min() - 40.0, strength.max() + 40.0
    offset = brentq(lambda at: expit(strength - at).sum() - wanted, low, high)
    scores: NDArray[np.float64] = expit(strength - offset)
    return scores


def _check_shapes(probs_NG: Floats, labels_N: NDArray[np.int64], class_names: Sequence[str]) -> None:
    num_classes = len(class_names)
    if probs_NG.shape != (len(labels_N), num_classes):
        raise ValueError(f"probs_NG is {probs_NG.shape}; allowed: ({len(labels_N)}, {num_classes}), photographs and classes")
    if len(labels_N) and not 0 <= labels_N.min() <= labels_N.max() < num_classes:
        raise ValueError(f"labels_N is {labels_N.min()} to {labels_N.max()}; allowed: 0 to {num_classes - 1}")
    if not np.isfinite(probs_NG).all() or (len(probs_NG) and (probs_NG.min() < 0.0 or probs_NG.max() > 1.0 + 1e-4)):
        raise ValueError("probs_NG has values outside 0 to 1; allowed: probabilities, not logits")
