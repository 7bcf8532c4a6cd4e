"""Pairs of classes that the network confuses or holds to be near: what similar-car batches are drawn from after an epoch.

Legend: N photographs, G trained classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from hectocar.config.schema import Config
from hectocar.disk.artifacts import EventLog
from hectocar.network.carnet import CarNet
from hectocar.progress import Progress
from hectocar.training.loader import FoldData

Pairs = list[tuple[int, int]]

MIN_CONFUSION = 0.02
"""Mean probability given to the other class, both ways together, from which a pair counts as confused."""


@dataclass(frozen=True)
class MinedPairs:
    """The pairs from now on, and what changed."""

    pairs: Pairs
    num_new: int
    num_retired: int


def mine_pairs(
    logits_NG: NDArray[np.float32] | None,
    label_N: NDArray[np.int64],
    closeness_GG: NDArray[np.float32] | None,
    old: Sequence[tuple[int, int]],
    max_pairs: int,
) -> MinedPairs:
    """Confused pairs first, most confused before others; places left over go to the closest class centres.

    Args:
        logits_NG: Of held-out photographs; None: they are not to choose, and the closest centres are taken alone.
        label_N: Their classes.
        closeness_GG: Cosine between class centres; None where the head has none.
        old: The pairs so far.
        max_pairs: Pairs to keep.
    """
    confusion_GG = None if logits_NG is None else _measure_confusion(logits_NG, label_N)
    tables = [table for table in (confusion_GG, closeness_GG) if table is not None]
    if not tables:
        return MinedPairs(list(old), 0, 0)
    first, second = np.triu_indices(len(tables[0]), 1)
    chosen: list[np.int64] = []
    if confusion_GG is not None:
        confusion = confusion_GG[first, second]
        order = np.argsort(-confusion, kind="stable")
        chosen = [k for k in order[:max_pairs] if confusion[k] >= MIN_CONFUSION]
    if closeness_GG is not None:
        taken = set(chosen)
        nearest = (k for k in np.argsort(-closeness_GG[first, second], kind="stable") if k not in taken)
        chosen += [k for k, _ in zip(nearest, range(max_pairs - len(chosen)), strict=False)]
    pairs = [(int(first[k]), int(second[k])) for k in chosen]
    return MinedPairs(pairs, len(set(pairs) - set(old)), len(set(old) - set(pairs)))


def _measure_confusion(logits_NG: NDArray[np.float32], label_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """(G, G) mean probability that photographs of a class give to the other, both ways together."""
    num_classes = logits_NG.shape[1]
    mass_GG = np.zeros((num_classes, num_classes))
    np.add.at(mass_GG, label_N, softmax(logits_NG.astype(np.float64), axis=1))
    mass_GG /= np.maximum(np.bincount(label_N, minlength=num_classes), 1)[:, None]
    confusion_GG: NDArray[np.float64] = mass_GG + mass_GG.T
    return confusion_GG


def mine_similar(
    config: Config, data: FoldData, logits_NG: NDArray[np.float32] | None, network: CarNet, pairs: Pairs, epoch: int,
    log: EventLog, progress: Progress,
) -> Pairs:  # fmt: skip
    """The pairs of the next epoch: mined from this one's validation; with ``select: last`` from the centres alone."""
    training = config.training
    if training.similar_prob == 0.0 or (logits_NG is None and training.select == "best"):
        return pairs
    mined = mine_pairs(
        None if training.select == "last" else logits_NG, data.labels[data.valid_rows], network.head.compute_closeness(), pairs,
        training.max_similar_pairs,
    )  # fmt: skip
    log.write("pairs", epoch=epoch + 1, used=len(mined.pairs), new=mined.num_new, retired=mined.num_retired)
    progress.note(f"similar pairs: {len(mined.pairs)}, {mined.num_new} new, {mined.num_retired} retired")
    return mined.pairs
