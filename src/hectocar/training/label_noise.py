"""Label noise by sub-centers: a class's clean photographs gather at one centre, the wrong ones at the others.

Deng et al. 2020, "Sub-center ArcFace", section 3.3: keep the dominant sub-center, drop what is far from it.
"""

import numpy as np
from numpy.typing import NDArray

from hectocar.config.schema import Config
from hectocar.disk.artifacts import EventLog
from hectocar.network.carnet import CarNet
from hectocar.network.heads import DominantCenters
from hectocar.network.inference import infer_photos
from hectocar.progress import Progress, count_with
from hectocar.training.ema import WeightAverage
from hectocar.training.loader import FoldData
from hectocar.training.recipe import EpochPlan

MAX_SHARE = 0.5
"""No class loses more than this share of its photographs."""


def find_noisy_places(dominant: DominantCenters, label_N: NDArray[np.int64], max_degrees: float) -> NDArray[np.int64]:
    """Places of the photographs whose embedding stands more than ``max_degrees`` from their class's dominant centre."""
    cosine_N = dominant.cosine_N
    places = []
    for label in np.unique(label_N):
        own_N = np.flatnonzero(label_N == label)
        farthest_N = own_N[np.argsort(cosine_N[own_N], kind="stable")[: int(MAX_SHARE * len(own_N))]]
        places.append(farthest_N[cosine_N[farthest_N] < np.cos(np.deg2rad(max_degrees))])
    return np.sort(np.concatenate(places))


def drop_label_noise(
    config: Config, plan: EpochPlan, data: FoldData, network: CarNet, average: WeightAverage | None,
    log: EventLog, progress: Progress,
) -> list[int]:  # fmt: skip
    """Finds photographs whose labels look wrong (label_noise.py), and keeps one sub-center per class from here on."""
    judge = average.network if average else network
    output = infer_photos(
        [judge], [data.files[row] for row in data.train_rows], size_px=plan.size_px, inference=config.inference,
        data=config.data, precision=config.training.precision, on_photo=count_with(progress, "looking for wrong labels"),
    )[0]  # fmt: skip
    labels = data.labels[data.train_rows]
    dominant = judge.head.find_dominant_centers(output.embeddings, labels)
    assert dominant is not None, "the configuration asks for a head with sub-centers"
    for net in (network, judge):
        net.head.keep_centers(dominant.center_C)
    place_N = find_noisy_places(dominant, labels, config.training.noise_degrees)
    rows: list[int] = data.train_rows[place_N].tolist() if len(labels) - len(place_N) >= 2 else []
    log.write("label_noise", epoch=plan.epoch + 1, dropped=[data.files[row].name for row in rows])
    progress.note(f"label noise: {len(rows)} of {len(labels)} photographs are no longer shown; one sub-center a class is kept")
    return rows
