"""Out-of-fold predictions: for each training photograph the answers of the network that did not see it.

They are kept in RUN/oof, see out_of_fold_store.py. Conditions: the photographs as they are (``clean``), shifted like the test
set (``shifted``), and some made ``unusable``; and, for the bank of neighbours only, those that the network was ``trained`` on.
Shapes: N photographs, V views, G trained classes, D dimensions, K looks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hectocar.codec import encode
from hectocar.dataset.folds import UNUSED_FOLD
from hectocar.dataset.manifest import Manifest
from hectocar.dataset.run_inputs import Run, read_run
from hectocar.delivery.bundle import load_network
from hectocar.delivery.members import BundleSpec, Member
from hectocar.delivery.runs import read_run_model
from hectocar.disk.artifacts import compute_digest
from hectocar.disk.locks import hold_lock
from hectocar.errors import ArtifactError
from hectocar.finishing.out_of_fold_store import Predictions, Shelf
from hectocar.network.carnet import CarNet
from hectocar.network.inference import choose_batch_bytes, infer_views, send_pictures
from hectocar.photos.batches import Change, iter_render_batches, shift_change
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.photos.shift import PhotoShift
from hectocar.photos.unusable import UNUSABLE, make_unusable
from hectocar.photos.views import LOOK_NAMES, VIEWS, Render, View, measure_look, own_views, plan_renders
from hectocar.progress import Progress, count_with

CLEAN, SHIFTED, UNUSABLE_CONDITION, TRAINED = "clean", "shifted", "unusable", "trained"
NUM_BRIGHTNESS = 500
"""Training photographs whose mean luma is the brightness that views brighten to."""
NUM_UNUSABLE = 200
"""Photographs of a run that are made unusable, each in every way."""
MIN_PART, PART_STEP, PART_SEED = 64, 10, 2025
"""Of what views are screened on: photographs of a fold at least, and one in so many."""


@dataclass(frozen=True)
class ViewTable:
    """One row per photograph that a finished fold held out (``unusable``: per photograph and kind; ``trained``: the others)."""

    views: tuple[str, ...]
    image_id: tuple[str, ...]
    kind: tuple[str, ...]
    """How the photograph was made unusable; empty otherwise."""
    fold: NDArray[np.int64]
    logits: NDArray[np.float32]
    """(V, N, G)."""
    embeddings: NDArray[np.float16]
    """(E, N, D) of the views that embed, from the fold's own network: those of different folds are not comparable."""
    looks: NDArray[np.float32]
    """(N, K), see ``photos.views.LOOK_NAMES``."""

    def embeddings_of(self, view: str) -> NDArray[np.float16]:
        """(N, D) of one view that embeds."""
        found: NDArray[np.float16] = self.embeddings[[name for name in self.views if VIEWS[name].embeds].index(view)]
        return found


@dataclass(frozen=True)
class OutOfFold:
    """One row per photograph that some finished fold held out. Embeddings of different folds are not comparable."""

    image_id: tuple[str, ...]
    fold: NDArray[np.int64]
    logits: NDArray[np.float32]
    """(N, G) over trained classes."""
    embeddings: NDArray[np.float32]
    """(N, D), each from its fold's own network."""
    angles: NDArray[np.float32]
    """(N,) radians to the dominant sub-center of the class that the photograph lies in; NaN without sub-centers."""


def predict_out_of_fold(run_folder: Path, data_folder: Path, device: torch.device, progress: Progress) -> OutOfFold:
    """Predicts every held-out photograph as it is with its fold's best network, in the view that the run validated with.

    Args:
        run_folder: A run with one finished fold or more.
        data_folder: Where the photographs lie now.
        device: Where to compute.
        progress: Receives a bar.

    Raises:
        ArtifactError: Not a run, damaged, no fold is finished, or a photograph cannot be read any more.
    """
    run = read_run(run_folder)
    spec, manifest = read_run_model(run), run.manifest
    views = own_views(spec.models[0].inference.mirror)
    table = predict_views(run, spec, data_folder, views, CLEAN, 0.0, device, progress)
    label_of = dict(zip(manifest.image_id, manifest.labels(run.classes).tolist(), strict=True))
    label_N = np.array([label_of[image_id] for image_id in table.image_id], dtype=np.int64)
    angle_N = np.full(len(label_N), np.nan, dtype=np.float32)
    embeddings = table.embeddings_of("plain").astype(np.float32)
    for member in spec.members:
        rows = np.flatnonzero(table.fold == member.fold)
        network = load_network(spec, member, torch.device("cpu"))
        angle_N[rows] = _dominant_angles(network, embeddings[rows], label_N[rows])
    return OutOfFold(table.image_id, table.fold, table.logits.mean(axis=0), embeddings, angle_N)


def measure_brightness(manifest: Manifest, data_folder: Path) -> float:
    """Mean luma (0 to 255) of a sample of the photographs that a run trains on."""
    files = [data_folder / manifest.path[row] for row in _spread(manifest.used(), NUM_BRIGHTNESS)]
    return float(np.mean([measure_look(decode_photo(read_photo_bytes(file), min_side_px=256))[0] for file in files]))


def predict_views(
    run: Run, spec: BundleSpec, data_folder: Path, views: Sequence[View], condition: str, brightness: float,
    device: torch.device, progress: Progress, *, part_only: bool = False,
) -> ViewTable:  # fmt: skip
    """Predicts the photographs of a run's finished folds in several views, under a condition.

    Args:
        run: The caller has seen that its photographs are those that it was made from.
        spec: Its finished folds.
        data_folder: Where the photographs lie now.
        views: The first gives the embeddings.
        condition: ``clean``, ``shifted``, ``unusable`` or ``trained``.
        brightness: Mean luma that bright views aim at.
        device: Where to compute.
        progress: Receives a bar per fold.
        part_only: Only those of ``choose_part``, which are kept for the call that asks about all.

    Raises:
        ArtifactError: Weights are damaged, or a photograph cannot be read any more.
    """
    manifest, shift = run.manifest, run.shift if condition == SHIFTED else None
    tables, order = [], []
    for member in spec.members:
        for name, rows, kinds in _list_pieces(run, member.fold, condition, part_only):
            job = _Job(
                views=tuple(views),
                image_id=tuple(manifest.image_id[row] for row in rows),
                kind=kinds or ("",) * len(rows),
                files=[data_folder / manifest.path[row] for row in rows],
                sha1=tuple(manifest.sha1[row] for row in rows),
                change=_unusable_change(kinds, rows.tolist()) if kinds else shift_change(shift),
                condition=name,
                shift=shift,
                brightness=brightness,
            )
            count = count_with(progress, f"out-of-fold predictions ({name}), {run.folder.name} fold {member.fold}")
            tables.append(_predict_member(spec, member, job, device, count))
            order += [(member.fold, row) for row in rows.tolist()]
    return _join(tables, np.array(sorted(range(len(order)), key=order.__getitem__), dtype=np.int64))


def choose_part(run: Run) -> NDArray[np.bool_]:
    """(rows of the manifest,) about a tenth of each fold, spread over its classes: told views apart, see ``screen_views``.

    At least MIN_PART of each fold; where that is more than a third of it, none. It does not depend on which folds are finished.
    """
    fold = run.folds.fold
    rows = np.flatnonzero(fold != UNUSED_FOLD)
    step = min(PART_STEP, len(rows) // (MIN_PART * run.config.data.num_folds))
    chosen = np.zeros(len(fold), dtype=np.bool_)
    if step >= 3:
        chance = np.random.default_rng(PART_SEED).random(len(rows))
        chosen[rows[np.lexsort((chance, run.manifest.labels(run.classes)[rows], fold[rows]))[::step]]] = True
    return chosen


def _list_pieces(run: Run, fold: int, condition: str, part_only: bool) -> list[tuple[str, NDArray[np.int64], tuple[str, ...]]]:
    """Name, rows and kinds of what is asked of a fold's network and kept together."""
    trained, held_out = run.folds.split(fold)
    if condition == TRAINED:
        return [(condition, trained, ())]
    if condition == UNUSABLE_CONDITION:
        return [(condition, *_choose_unusable(held_out, _spread(run.manifest.used(), NUM_UNUSABLE)))]
    in_part = choose_part(run)[held_out]
    pieces = [(f"{condition}_part", held_out[in_part], ())]
    pieces += [] if part_only else [(condition, held_out[~in_part], ())]
    return [piece for piece in pieces if len(piece[1])]


@dataclass(frozen=True)
class _Job:
    """What a fold's network is to look at."""

    views: tuple[View, ...]
    image_id: tuple[str, ...]
    kind: tuple[str, ...]
    files: list[Path]
    sha1: tuple[str, ...]
    change: Change | None
    condition: str
    shift: PhotoShift | None
    brightness: float


def _predict_member(
    spec: BundleSpec, member: Member, job: _Job, device: torch.device, count: Callable[[int, int], None]
) -> ViewTable:
    """From the store where it has them, or anew."""
    model = spec.models[member.model]
    renders, places = plan_renders(job.views, member.size_px, model.inference.fit, job.brightness)
    own = [renders[place] for place, _ in places]
    photos = [job.condition, encode(job.shift), job.image_id, job.sha1, job.kind]
    shelf = Shelf(
        folder=spec.folder / "oof",
        condition=job.condition,
        fold=member.fold,
        network=member.sha256,
        made_of=compute_digest([member.sha256, model.precision, spec.max_megapixels, *photos]),
        num_photos=len(job.files),
        num_classes=spec.classes.num_trained,
    )
    found = shelf.find(job.views, own)
    if found is None:
        with hold_lock(shelf.folder / f"{job.condition}_fold{member.fold}"):
            found = _predict(spec, member, job, renders, places, device, count)
            shelf.put(found, job.views, own)
    fold_N = np.full(len(job.files), member.fold, dtype=np.int64)
    names = tuple(view.name for view in job.views)
    return ViewTable(names, job.image_id, job.kind, fold_N, found.logits, found.embeddings, found.looks)


def _predict(
    spec: BundleSpec, member: Member, job: _Job, renders: Sequence[Render], places: list[tuple[int, bool]],
    device: torch.device, count: Callable[[int, int], None],
) -> Predictions:  # fmt: skip
    model, network, num_photos = spec.models[member.model], load_network(spec, member, device), len(job.files)
    logits = np.zeros((len(job.views), num_photos, network.num_classes), dtype=np.float32)
    embed = [number for number, view in enumerate(job.views) if view.embeds]
    embeddings = np.zeros((len(embed), num_photos, network.embed_dim), dtype=np.float16)
    looks = np.zeros((num_photos, len(LOOK_NAMES)), dtype=np.float32)
    batches = iter_render_batches(
        job.files,
        renders,
        read=read_photo_bytes,
        batch_size=model.inference.batch_size,
        max_megapixels=spec.max_megapixels,
        change=job.change,
        max_bytes=choose_batch_bytes(network),
    )
    for batch in batches:
        if batch.problems:
            place, reason = next(iter(batch.problems.items()))
            raise ArtifactError(f"{job.image_id[batch.index_B[place]]}: cannot be read any more ({reason}); restore it")
        rows = batch.index_B
        logits[:, rows], embeddings[:, rows] = infer_views(
            network, send_pictures(batch.pictures, network), places, model.precision, embed
        )
        looks[rows] = batch.look_BK
        count(int(rows[-1]) + 1, num_photos)
    return Predictions(logits, embeddings, looks)


def _spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly spread."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))]


def _choose_unusable(held_out: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The chosen rows among those held out, each once for every way of making a photograph unusable."""
    rows = held_out[np.isin(held_out, chosen)]
    return np.repeat(rows, len(UNUSABLE)), tuple(UNUSABLE) * len(rows)


def _unusable_change(kinds: Sequence[str], seeds: Sequence[int]) -> Change:
    return lambda image, index: make_unusable(image, kinds[index], seeds[index])


def _dominant_angles(network: CarNet, embeddings_ND: NDArray[np.float32], label_N: NDArray[np.int64]) -> NDArray[np.float32]:
    dominant = network.head.find_dominant_centers(embeddings_ND, label_N)
    if dominant is None:
        return np.full(len(label_N), np.nan, dtype=np.float32)
    angles: NDArray[np.float32] = np.arccos(np.clip(dominant.cosine_N, -1.0, 1.0))
    return angles


def _join(tables: Sequence[ViewTable], order: NDArray[np.int64]) -> ViewTable:
    """One below the other, then in the order given."""
    image_id = [image_id for table in tables for image_id in table.image_id]
    kind = [kind for table in tables for kind in table.kind]
    return ViewTable(
        views=tables[0].views,
        image_id=tuple(image_id[row] for row in order),
        kind=tuple(kind[row] for row in order),
        fold=np.concatenate([table.fold for table in tables])[order],
        logits=np.concatenate([table.logits for table in tables], axis=1)[:, order],
        embeddings=np.concatenate([table.embeddings for table in tables], axis=1)[:, order],
        looks=np.concatenate([table.looks for table in tables])[order],
    )
