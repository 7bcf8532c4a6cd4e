"""Signs that a photograph is unlike any seen. Shapes: N photographs, G trained classes, K looks."""

import numpy as np
from numpy.typing import ArrayLike

from hectocar.calibration.link import Side
from hectocar.scoring.arrays import Floats

DOUBT_NAMES = (
    *("confidence", "agreement", "entropy", "disagreement"),
    *("nearest", "crowd", "nearest_unseen", "crowd_unseen"),
    *("brightness", "sharpness"),
)
"""Log odds of the best class, log odds that the sources give it on average, entropy (nats), Jensen-Shannon divergence of the
sources (nats), cosine of the nearest neighbour, mean cosine of the ten nearest, the same two among the photographs that the
network has not seen, distance from the training brightness, log sharpness."""
_MIN_PROB = 1e-12


def measure_doubts(log_probs_NG: ArrayLike, side: Side) -> Floats:
    """(N, 10) signs that a photograph is unlike any seen, see ``DOUBT_NAMES``.

    Args:
        log_probs_NG: The chain so far.
        side: Of one network of each model: the sources of a mean of folds disagree less.
    """
    answer, log_probs = side.answer, np.asarray(log_probs_NG, dtype=np.float64)
    rows, best = np.arange(len(log_probs)), log_probs.argmax(axis=1)
    own, mean_NG, entropy_N = np.zeros(len(rows)), np.zeros_like(log_probs), np.zeros(len(rows))
    for source in answer.sources:
        probs = np.exp(np.asarray(source, dtype=np.float64))
        own += probs[rows, best] / len(answer.sources)
        mean_NG += probs / len(answer.sources)
        entropy_N += _entropy(probs) / len(answer.sources)
    looks = side.looks_NK.astype(np.float64)
    columns = [
        _log_odds(np.exp(log_probs[rows, best])),
        _log_odds(own),
        _entropy(np.exp(log_probs)),
        _entropy(mean_NG) - entropy_N,
        *answer.closeness.T,
        np.abs(looks[:, 0] - side.brightness),
        np.log(np.maximum(looks[:, 1], 1e-3)),
    ]
    return np.stack(columns, axis=1)


def _entropy(probs_NG: Floats) -> Floats:
    result: Floats = -(probs_NG * np.log(np.maximum(probs_NG, _MIN_PROB))).sum(axis=1)
    return result


def _log_odds(prob_N: Floats) -> Floats:
    clipped = np.clip(prob_N, 1e-6, 1.0 - 1e-6)
    result: Floats = np.log(clipped) - np.log1p(-clipped)
    return result
