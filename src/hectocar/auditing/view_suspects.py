"""Photographs without a whole upright car: none at all, a part of one, or one on its side or head.

Nobody labels such photographs. The detectors are taught with what the data set's own photographs become when they are cut
or turned, in the space of a frozen pretrained network, and no photograph is judged by a detector that it has taught.
Legend: N photographs, M sampled ones, E taught examples, D embedding, P principal components, K kinds, H W px, C channels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit, logit
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.floating]
Embed = Callable[[NDArray[np.uint8]], Floats]
"""uint8 (B, H, W, 3) -> (B, D) in the space of ``embed_ND``."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the photograph."""

NO_CAR, PART_ONLY, ROTATED = "no_car", "part_only", "rotated"
"""Kinds of suspects."""
NUM_TAUGHT = 400
"""Sampled photographs that are cut and turned at most: 27 of the first 28 in 6,347 showed no car or a part of one."""
OUTLIER_WEIGHT = 1.0
"""Of the distance to all others beside the detector. It finds what no crop resembles: of 18 pictures of other things than
cars, hidden among 6,347 photographs, 12 ranked among the first 50 without it and 15 with it."""
PART_AREA, WHOLE_AREA = (0.04, 0.2), (0.6, 1.0)
"""Share of the photograph that a close-up and an ordinary crop show."""
EDGE_STRIPS: tuple[Box, ...] = ((0.0, 0.0, 0.22, 0.28), (0.78, 0.0, 1.0, 0.28), (0.0, 0.0, 1.0, 0.14), (0.0, 0.9, 1.0, 1.0))
"""Upper corners, sky and road, where a car is least likely; a detector of no car survives the few that hit one."""
NUM_TEXTURES = 120
MIN_SAMPLES = 10
_NORMAL, _PART, _EMPTY = 0, 1, 2
"""Targets of the detector of content; the detector of turns has _NORMAL and 1 to 3 quarter turns to the left."""
_TURNS = ("a quarter to the left", "upside down", "a quarter to the right")
_NUM_FOLDS, _NUM_COMPONENTS, _NUM_COMMON, _INVERSE_PENALTY = 5, 192, 64, 1.0
_NUM_REFERENCES = 4000
_BATCH, _NO_PLACE = 64, -1


@dataclass(frozen=True)
class ViewSuspects:
    """All photographs, the most suspicious first."""

    row: NDArray[np.int64]
    """(N,) row of ``embed_ND``, each once."""
    kind: tuple[str, ...]
    score: NDArray[np.float64]
    """(N,) in [0, 1], falling; 1: surely no ordinary view."""
    reason: tuple[str, ...]


@dataclass(frozen=True)
class _Picture:
    image_HWC: NDArray[np.uint8]
    target: int
    place: int
    """Of the photograph that it was made from; _NO_PLACE for a texture."""


@dataclass(frozen=True)
class _Examples:
    """Embeddings of made pictures, what they are, and the place in the sample that each was made from (-1: none)."""

    embed_ED: NDArray[np.float32]
    target_E: NDArray[np.int64]
    place_E: NDArray[np.int64]


def rank_content_suspects(
    embed_ND: Floats, sample_rows_M: NDArray[np.int64], sample_images_MHWC: NDArray[np.uint8], embed: Embed, *, seed: int
) -> ViewSuspects:
    """One ranked list of photographs that show no car or only a part of one.

    The rank adds the detector's log odds of "no ordinary view" and how far the photograph lies outside of what the others
    have in common.

    Args:
        embed_ND: Of the whole photographs, from a frozen pretrained network. One trained on cars sees cars everywhere.
        sample_rows_M: Rows of the photographs whose pixels are given; NUM_TAUGHT of them, drawn at random, are used.
        sample_images_MHWC: Their pixels, square, as the network sees them.
        embed: The same network.
        seed: Of crops, textures and folds.

    Raises:
        ValueError: Arrays that do not fit each other, or fewer than MIN_SAMPLES photographs.
    """
    rows_M, images_MHWC = _draw_sample(embed_ND, sample_rows_M, sample_images_MHWC, seed)
    taught = _embed_pictures(_iter_content_pictures(images_MHWC, seed), embed)
    unit_ND = _to_unit(embed_ND)
    probs_NK = _cross_fit(unit_ND, rows_M, taught, seed)
    unlike_N = _measure_unlikeness(unit_ND, seed)
    odd_N = np.clip(1.0 - probs_NK[:, _NORMAL], 1e-9, 1.0 - 1e-9)
    # Only to be unlike counts: many copies of one placeholder are a thing in common, and lie right inside of it.
    strength_N = logit(odd_N) + OUTLIER_WEIGHT * np.maximum(unlike_N, 0.0)
    order = np.argsort(-strength_N, kind="stable")
    kind_N = probs_NK[:, 1:].argmax(axis=1)
    kinds, looks = (PART_ONLY, NO_CAR), ("a close-up", "a picture without a car")
    reasons = tuple(
        f"looks like {looks[kind_N[n]]} (p={probs_NK[n, 1 + kind_N[n]]:.2f}); "
        f"{unlike_N[n]:+.1f} deviations from the usual likeness to the others"
        for n in order
    )
    return ViewSuspects(order, tuple(kinds[kind_N[n]] for n in order), expit(strength_N[order]), reasons)


def rank_rotated(
    embed_ND: Floats, sample_rows_M: NDArray[np.int64], sample_images_MHWC: NDArray[np.uint8], embed: Embed, *, seed: int
) -> ViewSuspects:
    """All photographs by the probability that they do not stand upright (Gidaris et al. 2018: predict the turn).

    Turning is done on square pictures: a photograph turned on the disk looks the same once it is stretched to a square.
    Arguments and errors as in ``rank_content_suspects``.
    """
    rows_M, images_MHWC = _draw_sample(embed_ND, sample_rows_M, sample_images_MHWC, seed)
    taught = _embed_pictures(_iter_turned_pictures(images_MHWC), embed)
    probs_NK = _cross_fit(_to_unit(embed_ND), rows_M, taught, seed)
    turned_N = np.clip(1.0 - probs_NK[:, _NORMAL], 0.0, 1.0)
    order = np.argsort(-turned_N, kind="stable")
    turn_N = probs_NK[:, 1:].argmax(axis=1)
    reasons = tuple(f"seems turned {_TURNS[turn_N[n]]} (p={turned_N[n]:.2f})" for n in order)
    return ViewSuspects(order, (ROTATED,) * len(order), turned_N[order], reasons)


def _iter_content_pictures(images_MHWC: NDArray[np.uint8], seed: int) -> Iterator[_Picture]:
    """Makes of each photograph a light crop and a turned one, two close-ups and a strip of its edge.

    The light crop is blurred: a close-up is enlarged, and would else be known by its lack of detail. The turned one keeps
    photographs on their side, which have a list of their own, out of this one.
    """
    rng = np.random.default_rng(seed)
    for place, image_HWC in enumerate(images_MHWC):
        light = _cut(image_HWC, _draw_box(rng, WHOLE_AREA, margin=0.0))
        yield _Picture(_blur(light, rng.uniform(0.25, 1.0)), _NORMAL, place)
        yield _Picture(np.rot90(image_HWC, int(rng.integers(1, 4))), _NORMAL, place)
        for _ in range(2):
            yield _Picture(_cut(image_HWC, _draw_box(rng, PART_AREA, margin=0.08)), _PART, place)
        yield _Picture(_cut(image_HWC, EDGE_STRIPS[int(rng.integers(len(EDGE_STRIPS)))]), _EMPTY, place)
    for _ in range(min(NUM_TEXTURES, len(images_MHWC))):
        yield _Picture(_draw_texture(rng, images_MHWC.shape[1], images_MHWC.shape[2]), _EMPTY, _NO_PLACE)


def _iter_turned_pictures(images_MHWC: NDArray[np.uint8]) -> Iterator[_Picture]:
    """Yields each photograph turned by one, two and three quarters to the left."""
    for place, image_HWC in enumerate(images_MHWC):
        for quarter_turns in (1, 2, 3):
            yield _Picture(np.rot90(image_HWC, quarter_turns), quarter_turns, place)


def _draw_box(rng: np.random.Generator, area: tuple[float, float], *, margin: float) -> Box:
    """A box of a random area and shape, ``margin`` away from the edges where it fits."""
    share, shape = rng.uniform(*area), np.exp(rng.uniform(-0.5, 0.5))
    starts, ends = [], []
    for length in (min(1.0, float(np.sqrt(share * shape))), min(1.0, float(np.sqrt(share / shape)))):
        first = min(margin, 1.0 - length)
        start = float(rng.uniform(first, max(1.0 - margin - length, first)))
        starts.append(start)
        ends.append(min(1.0, start + length))
    return starts[0], starts[1], ends[0], ends[1]


def _draw_texture(rng: np.random.Generator, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """What stands in for a photograph by mistake: snow, stripes, gradients, blocks, a plain colour.

    All are noise of a random number of cells: as many as pixels are snow, two are a gradient, one is a plain colour.
    """
    num_cells = min(height_px, int(np.exp(rng.uniform(0.0, np.log(height_px) + 0.4))))
    num_columns = num_cells if rng.random() < 0.7 else 1
    cells = rng.uniform(0.0, 255.0, size=(num_cells, num_columns, 1 if rng.random() < 0.5 else 3))
    if rng.random() < 0.3:
        cells = np.where(cells > 127.0, 255.0, 0.0)
    middle, contrast = rng.uniform(0.0, 255.0, size=cells.shape[2]), rng.uniform(0.1, 1.0)
    colours = np.broadcast_to(middle * (1.0 - contrast) + cells * contrast, (*cells.shape[:2], 3)).astype(np.uint8)
    smooth = Image.Resampling.NEAREST if rng.random() < 0.5 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(colours).resize((width_px, height_px), smooth))


def _cut(image_HWC: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    height_px, width_px = image_HWC.shape[:2]
    box_px = (box[0] * width_px, box[1] * height_px, box[2] * width_px, box[3] * height_px)
    return np.asarray(Image.fromarray(image_HWC).resize((width_px, height_px), Image.Resampling.BILINEAR, box=box_px))


def _blur(image_HWC: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    height_px, width_px = image_HWC.shape[:2]
    inner_px = (max(1, round(width_px * share)), max(1, round(height_px * share)))
    small = Image.fromarray(image_HWC).resize(inner_px, Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width_px, height_px), Image.Resampling.BILINEAR))


def _embed_pictures(pictures: Iterator[_Picture], embed: Embed) -> _Examples:
    """Makes and embeds a batch at a time: all pictures at once would take a gigabyte."""
    embeddings, targets, places = [], [], []
    while batch := list(islice(pictures, _BATCH)):
        embeddings.append(_to_unit(embed(np.stack([picture.image_HWC for picture in batch]))))
        targets += [picture.target for picture in batch]
        places += [picture.place for picture in batch]
    return _Examples(np.concatenate(embeddings), np.array(targets), np.array(places))


def _to_unit(embed_ND: Floats) -> NDArray[np.float32]:
    # A close-up's features are weaker or stronger than usual with its contrast; their direction says what it shows.
    values_ND = np.asarray(embed_ND, dtype=np.float32)
    unit_ND: NDArray[np.float32] = values_ND / np.maximum(np.linalg.norm(values_ND, axis=1, keepdims=True), 1e-12)
    return unit_ND


def _cross_fit(unit_ND: NDArray[np.float32], rows_M: NDArray[np.int64], taught: _Examples, seed: int) -> NDArray[np.float64]:
    """(N, K) probabilities of a logistic regression on principal components.

    The sampled photographs as they are stand for the normal kind too. One of them is judged by the fold that was taught
    neither with it nor with pictures made from it, any other photograph by the mean over the folds.
    """
    fold_M = np.random.default_rng(seed).permutation(len(rows_M)) % _NUM_FOLDS
    examples_ED = np.concatenate([unit_ND[rows_M], taught.embed_ED])
    target_E = np.concatenate([np.full(len(rows_M), _NORMAL), taught.target_E])
    fold_E = np.concatenate([fold_M, np.where(taught.place_E < 0, -1, fold_M[taught.place_E])])
    pca = PCA(min(_NUM_COMPONENTS, *examples_ED.shape), svd_solver="covariance_eigh").fit(examples_ED)
    # One scale for all components: the penalty then holds for any network's length of embedding, and weak components,
    # which are mostly noise, stay weak.
    scale = max(float(np.sqrt(pca.explained_variance_[0])), 1e-12)
    parts_EP, parts_NP = pca.transform(examples_ED) / scale, pca.transform(unit_ND) / scale
    probs_FNK = []
    for fold in range(_NUM_FOLDS):
        shown = fold_E != fold
        model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=300).fit(parts_EP[shown], target_E[shown])
        probs_FNK.append(model.predict_proba(parts_NP))
    mean_NK: NDArray[np.float64] = np.mean(probs_FNK, axis=0)
    mean_NK[rows_M] = [probs_FNK[fold][row] for fold, row in zip(fold_M, rows_M, strict=True)]
    return mean_NK


def _measure_unlikeness(unit_ND: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """(N,) robust deviations of the log squared distance to the space that the photographs have in common.

    That space is the first principal components of a sample. Distances to nearest neighbours do not serve: pictures of one
    kind of noise are near to each other and would pass as usual.
    """
    references = np.random.default_rng(seed).permutation(len(unit_ND))[:_NUM_REFERENCES]
    num_common = max(1, min(_NUM_COMMON, len(references) // 8, unit_ND.shape[1] // 2))
    pca = PCA(num_common, svd_solver="covariance_eigh").fit(unit_ND[references])
    parts_NP = pca.transform(unit_ND)
    rest_N = ((unit_ND - pca.mean_) ** 2).sum(axis=1) - (parts_NP**2).sum(axis=1)
    log_rest_N = np.log(np.maximum(rest_N, 1e-9)).astype(np.float64)
    centred_N = log_rest_N - np.median(log_rest_N)
    # 1.4826: the median absolute deviation of a normal distribution is that much smaller than its standard deviation.
    deviations_N: NDArray[np.float64] = centred_N / max(1.4826 * float(np.median(np.abs(centred_N))), 1e-3)
    return deviations_N


def _draw_sample(
    embed_ND: Floats, sample_rows_M: NDArray[np.int64], sample_images_MHWC: NDArray[np.uint8], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    num_samples, shape = len(sample_rows_M), sample_images_MHWC.shape
    if num_samples < MIN_SAMPLES:
        raise ValueError(f"{num_samples} sampled photographs; allowed: {MIN_SAMPLES} or more")
    if sample_images_MHWC.dtype != np.uint8 or len(shape) != 4 or shape[0] != num_samples or shape[1] != shape[2]:
        raise ValueError(
            f"sample_images_MHWC is {sample_images_MHWC.dtype} {shape}; allowed: uint8, ({num_samples}, H, W, 3) with H = W"
        )
    if len(np.unique(sample_rows_M)) < num_samples or sample_rows_M.min() < 0 or sample_rows_M.max() >= len(embed_ND):
        raise ValueError(f"sample_rows_M must be different rows, from 0 to {len(embed_ND) - 1}")
    drawn = np.random.default_rng(seed).permutation(num_samples)[:NUM_TAUGHT]
    return sample_rows_M[drawn], sample_images_MHWC[drawn]
