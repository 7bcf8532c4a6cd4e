"""The order of photographs in an epoch: a pure function of (seed, epoch), so that a resumed epoch is the same epoch."""

import numpy as np
from numpy.typing import NDArray


def epoch_batches(row_N: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Shuffles the training rows and cuts them into batches; every photograph is shown exactly once.

    The photographs that do not fill a batch are spread over the last two batches, so that no batch is so small that its
    statistics mislead BatchNorm and none is dropped.

    Args:
        row_N: Manifest rows of the training photographs.
        batch_size: Photographs per optimiser step; a set smaller than it makes one batch.
        seed: Of the training.
        epoch: From 0.

    Returns:
        Batches of rows.
    """
    order = np.random.default_rng([seed, epoch]).permutation(np.sort(row_N))
    num_whole = len(order) // batch_size
    rest = len(order) - num_whole * batch_size
    if num_whole == 0 or rest == 0:
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    start_of_tail = (num_whole - 1) * batch_size
    whole = [order[start : start + batch_size] for start in range(0, start_of_tail, batch_size)]
    tail = order[start_of_tail:]
    middle = (len(tail) + 1) // 2
    return [*whole, tail[:middle], tail[middle:]]
