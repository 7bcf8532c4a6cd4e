"""The order of photographs in an epoch: a pure function of its arguments, so that a resumed epoch is the same epoch.

A sample is a number that names a photograph and which showing of it in the epoch it is: manifest row + showing x number of
rows. Showings of one photograph get different augmentations.
"""

from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def epoch_batches(
    row_N: Rows,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    label_M: NDArray[np.int64] | None = None,
    pairs: Sequence[tuple[int, int]] = (),
    similar_prob: float = 0.0,
    balance: float = 0.0,
) -> list[Rows]:
    """Shuffles the training rows and cuts them into batches; every photograph is shown at least once, and none is dropped.

    The photographs that do not fill a batch are spread over the last two batches, so that no batch is so small that its
    statistics mislead BatchNorm; of batches of two, the last has three. Without ``balance`` each is shown exactly once: a
    batch of similar cars takes photographs that the epoch has not shown yet and is filled up with others when its pairs
    have none left. It is shuffled, because order counts inside a batch: a photograph is mixed with the next one, and a
    batch that does not fit into memory is cut into parts as it stands.

    Args:
        row_N: Manifest rows of the training photographs.
        batch_size: Photographs per optimiser step; a set smaller than it makes one batch.
        seed: Of the training.
        epoch: From 0.
        label_M: Class of every manifest row; needed for the three below.
        pairs: Classes that are similar.
        similar_prob: Probability that a batch is drawn from the pairs.
        balance: Small classes are repeated (largest / own size)^balance times.

    Returns:
        Batches of samples.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(np.sort(row_N))
    if balance > 0.0 and label_M is not None:
        order = rng.permutation(np.concatenate([order, _extra_samples(order, label_M, balance)]))
    sizes = _batch_sizes(len(order), batch_size)
    if similar_prob > 0.0 and len(pairs) > 0 and label_M is not None:
        return _similar_batches(order, sizes, label_M, pairs, similar_prob, rng)
    return [order[start:stop] for start, stop in pairwise([0, *accumulate(sizes)])]


def _batch_sizes(num_samples: int, batch_size: int) -> list[int]:
    num_whole, rest = divmod(num_samples, batch_size)
    if rest == 0 or num_whole == 0:
        return [batch_size] * num_whole if rest == 0 else [rest]
    tail = batch_size + rest
    parts = [tail] if tail < 4 else [(tail + 1) // 2, tail // 2]  # BatchNorm has no statistics of a single photograph
    return [batch_size] * (num_whole - 1) + parts


def _extra_samples(order: Rows, label_M: NDArray[np.int64], balance: float) -> Rows:
    """The second and later showings: whole rounds of a class, then a part of one."""
    count_G = np.bincount(label_M[order])
    extra: list[Rows] = []
    for label in np.flatnonzero(count_G):
        rows = order[label_M[order] == label]
        wanted = round(len(rows) * (count_G.max() / len(rows)) ** balance)
        extra += [rows[k % len(rows)][None] + len(label_M) * (k // len(rows)) for k in range(len(rows), wanted)]
    return np.concatenate(extra) if extra else order[:0]


def _similar_batches(
    order: Rows,
    sizes: Sequence[int],
    label_M: NDArray[np.int64],
    pairs: Sequence[tuple[int, int]],
    similar_prob: float,
    rng: np.random.Generator,
) -> list[Rows]:
    label_N = label_M[order % len(label_M)].tolist()
    queues: dict[int, deque[int]] = {}
    for place, label in enumerate(label_N):
        queues.setdefault(label, deque()).append(place)
    shown = np.zeros(len(order), dtype=bool)
    shuffler = rng.spawn(1)[0]  # of its own: what a batch holds does not depend on how an earlier one was shuffled
    cursor, batches = 0, []
    for size in sizes:
        places: list[int] = []
        similar = rng.random() < similar_prob
        if similar:
            share = max(1, size // 8)  # of one class: four pairs meet in a batch
            for k in rng.permutation(len(pairs)):
                queue_pair = [queues.get(label, deque()) for label in pairs[k]]
                if not all(queue_pair):
                    continue  # a class without its rival teaches nothing here
                for queue in queue_pair:
                    places += [queue.popleft() for _ in range(min(share, len(queue), size - len(places)))]
                if len(places) == size:
                    break
            shown[places] = True
        while len(places) < size:
            if not shown[cursor]:
                shown[cursor] = True
                places.append(cursor)
                queues[label_N[cursor]].popleft()  # places of a class stand in order, so this one is its first
            cursor += 1
        batches.append(order[shuffler.permutation(places) if similar else places])
    return batches
