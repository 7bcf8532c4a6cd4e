"""Suspects as rows of the decisions: wrong labels by a run's out-of-fold predictions, odd views by embeddings."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hectocar.auditing.embedder import Embedder
from hectocar.auditing.label_suspects import LabelSuspects, compute_neighbour_probs, rank_label_suspects
from hectocar.auditing.view_suspects import MIN_SAMPLES, ViewSuspects, rank_content_suspects, rank_rotated
from hectocar.dataset.classes import ClassList
from hectocar.dataset.decisions import KEEP, Decision
from hectocar.dataset.run_inputs import read_run
from hectocar.dataset.scan import PhotoScan
from hectocar.errors import ArtifactError, DataError
from hectocar.finishing.out_of_fold import OutOfFold, predict_out_of_fold
from hectocar.photos.batches import iter_render_batches
from hectocar.photos.decode import read_photo_bytes
from hectocar.photos.views import Render
from hectocar.progress import Progress
from hectocar.scoring.arrays import softmax

MIN_LISTED, LISTED_SHARE = 100, 0.02
"""A list of suspects has at least this many rows, or this share of the photographs."""
MIN_TURNED = 0.9
"""Below it, on cars196, the list is mostly cars seen from above."""
NUM_SAMPLES = 400
"""Photographs that the detectors of odd views are taught with, cut and turned."""
_SEED = 2025


def judge_labels(
    run: Path, scan: PhotoScan, label_N: NDArray[np.int64], classes: ClassList, device: torch.device, progress: Progress
) -> tuple[list[Decision], int]:
    """Rows for the photographs whose folder probably names the wrong car, and the estimated number of wrong labels.

    Raises:
        ArtifactError: The run is of other classes or of other photographs.
    """
    place_of = {image_id: place for place, image_id in enumerate(scan.image_id)}
    _check_run(run, scan, classes, place_of)
    oof = predict_out_of_fold(run, scan.root, device, progress)
    places = np.array([place_of[image_id] for image_id in oof.image_id], dtype=np.int64)
    labels = label_N[places]
    progress.note(f"out-of-fold predictions of {len(places)} photographs, folds {sorted(set(oof.fold.tolist()))}")
    suspects = rank_suspects(oof, labels, classes)
    num_listed = max(MIN_LISTED, int(LISTED_SHARE * len(places)), 2 * suspects.num_errors)
    rows = []
    for row, score, suggested, reason in list(
        zip(suspects.row, suspects.score, suspects.suggested, suspects.reason, strict=True)
    )[:num_listed]:
        image_id = scan.image_id[places[row]]
        name = classes.members[int(suggested)][0]
        rows.append(Decision(image_id, "wrong_label", KEEP, score=float(score), reason=reason, label=name))
    return rows, suspects.num_errors


def rank_suspects(oof: OutOfFold, labels_N: NDArray[np.int64], classes: ClassList) -> LabelSuspects:
    """What out-of-fold predictions doubt among the labels of their photographs."""
    return rank_label_suspects(
        softmax(oof.logits),
        labels_N,
        [classes.label(g) for g in range(classes.num_trained)],
        neighbour_probs_NG=compute_neighbour_probs(oof.embeddings, labels_N, oof.fold, classes.num_trained),
        subcenter_angle_N=oof.angles if np.isfinite(oof.angles).all() else None,
    )


def _check_run(run: Path, scan: PhotoScan, classes: ClassList, place_of: dict[str, int]) -> None:
    opened = read_run(run)
    manifest = opened.manifest
    if opened.classes.members != classes.members:
        raise ArtifactError(f"--run {run}: it was trained on other classes than this data folder has; train a new run")
    for row in manifest.used():
        place = place_of.get(manifest.image_id[row])
        if place is None or scan.rows[place].sha1 != manifest.sha1[row]:
            raise ArtifactError(
                f"--run {run}: it was trained on other photographs, first {manifest.image_id[row]}; train a new run, "
                "or leave --run away"
            )


def judge_views(
    scan: PhotoScan, rows: NDArray[np.int64], embeddings_ND: NDArray[np.float32], embedder: Embedder, progress: Progress
) -> list[Decision]:
    """Rows for photographs that show no car or a part only, and for those that stand on their side or head.

    Raises:
        DataError: Photographs that were embedded have become unreadable since, so that too few are left to learn from.
    """
    chosen = np.sort(np.random.default_rng(_SEED).permutation(len(rows))[:NUM_SAMPLES])
    all_files = scan.files()
    files = [all_files[k] for k in rows[chosen]]
    batches = list(
        iter_render_batches(
            files,
            [Render("stretch", embedder.size_px)],
            read=read_photo_bytes,
            looks=False,
            batch_size=64,
            max_megapixels=embedder.max_megapixels,
        )
    )
    unread = [int(batch.index_B[place]) for batch in batches for place in batch.problems]
    if len(chosen) - len(unread) < MIN_SAMPLES:
        raise DataError(f"{files[unread[0]]}: cannot be read any more, and {len(unread) - 1} others; call the audit again")
    chosen, images = (np.delete(a, unread, axis=0) for a in (chosen, np.concatenate([b.pictures[0] for b in batches])))
    progress.start("learning what odd views look like", 2)
    own = embeddings_ND[rows]
    content = rank_content_suspects(own, chosen, images, embedder.embed_pixels, seed=_SEED)
    progress.advance(1)
    turned = rank_rotated(own, chosen, images, embedder.embed_pixels, seed=_SEED)
    progress.advance(1)
    num_listed = max(MIN_LISTED, int(LISTED_SHARE * len(rows)))
    return _list_views(scan, rows, content, num_listed, 0.0) + _list_views(scan, rows, turned, num_listed, MIN_TURNED)


def _list_views(
    scan: PhotoScan, rows: NDArray[np.int64], found: ViewSuspects, num_listed: int, min_score: float
) -> list[Decision]:
    columns = zip(found.row[:num_listed], found.kind, found.score, found.reason, strict=False)
    return [
        Decision(scan.image_id[rows[row]], kind, KEEP, score=float(score), reason=reason)
        for row, kind, score, reason in columns
        if score >= min_score
    ]
