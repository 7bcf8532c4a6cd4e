"""Checked tables of numbers, and the softmax: what metrics, calibration and serving share.

Shapes: N rows, C columns. Wrong shapes, NaN and labels out of range are a programmer's mistake and raise ValueError.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def softmax(logits_NC: ArrayLike, temperature: float = 1.0) -> Floats:
    """Probabilities of logits divided by the temperature; every row sums to 1 within rounding."""
    shifted = _shifted(logits_NC, temperature)
    exp_NC = np.exp(shifted)
    result: Floats = exp_NC / exp_NC.sum(axis=1, keepdims=True)
    return result


def log_softmax(logits_NC: ArrayLike, temperature: float = 1.0) -> Floats:
    """Log of `softmax`, without passing through probabilities that underflow."""
    shifted = _shifted(logits_NC, temperature)
    rest_NC = np.exp(shifted)
    # The largest entry is exp(0) = 1. Taken out of the sum, log1p keeps losses below 1e-16 that log(1 + x) rounds to 0.
    rest_NC[np.arange(len(rest_NC)), shifted.argmax(axis=1)] = 0.0
    result: Floats = shifted - np.log1p(rest_NC.sum(axis=1, keepdims=True))
    return result


def _shifted(logits_NC: ArrayLike, temperature: float) -> Floats:
    """(logits - row maximum) / temperature: subtracted first, so that a tiny temperature cannot make inf - inf."""
    logits = check_matrix(logits_NC, "logits_NC")
    if not (np.isfinite(temperature) and temperature > 0.0):
        raise ValueError(f"temperature is {temperature}; allowed: a finite number above 0")
    with np.errstate(over="ignore"):
        shifted: Floats = (logits - logits.max(axis=1, keepdims=True)) / temperature
    return shifted


def normalise_rows(probs_NC: ArrayLike) -> Floats:
    """The rows of a table of 0 or more, divided by their sums. Raises ValueError."""
    probs = check_matrix(probs_NC, "probs_NC")
    if probs.min() < 0.0:
        row, column = np.argwhere(probs < 0.0)[0]
        raise ValueError(f"probs_NC[{row}, {column}] is {probs[row, column]}; allowed: 0 or more")
    with np.errstate(over="ignore"):
        sum_N1 = probs.sum(axis=1, keepdims=True)
    bad = ~((sum_N1 > 0.0) & np.isfinite(sum_N1))[:, 0]
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(f"row {row} of probs_NC sums to {sum_N1[row, 0]}; allowed: a finite sum above 0")
    result: Floats = probs / sum_N1
    return result


def check_matrix(values: ArrayLike, name: str) -> Floats:
    """A finite table that is not empty. Raises ValueError."""
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} has shape {matrix.shape}; allowed: (rows, columns), at least one of each")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(f"{name}[{row}, {column}] is {matrix[row, column]}; allowed: finite numbers")
    return matrix


def check_vector(values: ArrayLike, name: str) -> Floats:
    """Two finite numbers or more. Raises ValueError."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or len(vector) < 2:
        raise ValueError(f"{name} has shape {vector.shape}; allowed: one dimension of 2 or more values")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} has {int((~np.isfinite(vector)).sum())} values that are not finite; allowed: finite numbers")
    return vector


def check_labels(label_N: ArrayLike, table_NC: ArrayLike) -> Ints:
    """One column of the table for each of its rows. Raises ValueError."""
    num_rows, num_columns = np.shape(table_NC)
    raw: NDArray[Any] = np.asarray(label_N)
    if raw.shape != (num_rows,) or raw.dtype.kind not in "iu":
        raise ValueError(f"label_N has shape {raw.shape} and type {raw.dtype}; allowed: ({num_rows},) integers")
    if raw.min() < 0 or raw.max() >= num_columns:
        row = int(((raw < 0) | (raw >= num_columns)).argmax())
        raise ValueError(f"label_N[{row}] is {raw[row]}; allowed: 0 to {num_columns - 1}")
    return raw.astype(np.int64)
