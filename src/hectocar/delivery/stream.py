"""Predictions of many photographs, written part by part beside the answer, so that an interruption loses one part at most.

OUT.parts/<n>.npz (probabilities, problems, and the digest of what they were made from) are taken up again while model,
choice of views and folds, and photographs are the same; they go when the answer stands. A part is one list of batches
whatever the number of workers and wherever the work was cut, so the answer is the same to the last digit.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hectocar.codec import encode
from hectocar.delivery.prediction import ProbabilityTable
from hectocar.delivery.predictor import Classifier
from hectocar.disk.artifacts import compute_digest, load_arrays, read_json, save_arrays, write_json
from hectocar.disk.outputs import list_content
from hectocar.disk.writing import make_folder, name_beside, sweep
from hectocar.errors import ArtifactError

PART_PHOTOS = 256
_MARKER = "parts.json"
_MAX_NAME_BYTES = 255


def parts_folder(out: Path) -> Path:
    """Where the parts of an answer lie."""
    visible = out.with_name(f"{out.name}.parts")
    return visible if len(os.fsencode(visible.name)) <= _MAX_NAME_BYTES else name_beside(out, ".parts")


def predict_in_parts(
    classifier: Classifier,
    files: tuple[Path, ...],
    folder: Path,
    *,
    num_workers: int = 0,
    on_photo: Callable[[int, int], None] | None = None,
) -> tuple[ProbabilityTable, int]:
    """Predicts what is not in the folder yet.

    Args:
        classifier: The model.
        files: Photographs.
        folder: See ``parts_folder``; parts of another model or of other photographs are thrown away.
        num_workers: Decoding threads, 0 for one per core.
        on_photo: Called with (done, total).

    Returns:
        All rows, and how many of them were there already.

    Raises:
        ArtifactError: The folder holds something else.
    """
    digest = compute_digest(_describe(classifier, files))
    _open_folder(folder, digest)
    parts, num_found = [], 0
    for start in range(0, len(files), PART_PHOTOS):
        chunk = files[start : start + PART_PHOTOS]
        path = folder / f"{start // PART_PHOTOS:06d}.npz"
        part = _load_part(path, digest, len(chunk), classifier.classes.num_trained)
        if part is None:
            part = classifier.predict_proba(
                chunk, num_workers=num_workers, on_photo=_shifted(on_photo, start, len(files)) if on_photo else None
            )
            _save_part(path, digest, part)
        else:
            num_found += len(chunk)
            if on_photo:
                on_photo(start + len(chunk), len(files))
        parts.append(part)
    problems = {
        number * PART_PHOTOS + row: reason for number, part in enumerate(parts) for row, reason in part.problems.items()
    }
    return ProbabilityTable(np.concatenate([part.probs_NG for part in parts]), problems), num_found


def remove_parts(folder: Path) -> None:
    """Removes the parts once the answer stands, the file by which the folder is known last; what is not ours stays."""
    if not (folder / _MARKER).is_file():
        return
    for path in [*folder.glob("??????.npz"), folder / _MARKER]:
        path.unlink(missing_ok=True)
    sweep(folder)
    with suppress(OSError):
        folder.rmdir()


def _open_folder(folder: Path, digest: str) -> None:
    foreign = f"{folder}: stands where the parts of the answer are kept, and is none of ours; move it away"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ArtifactError(foreign)
    if folder.is_dir() and list_content(folder):
        if not (folder / _MARKER).is_file():
            raise ArtifactError(foreign)
        if _is_made_of(folder / _MARKER, digest):
            return
        remove_parts(folder)
        if folder.is_dir() and list_content(folder):
            raise ArtifactError(foreign)
    make_folder(folder, lambda temporary: write_json(temporary / _MARKER, {"made_of": digest}))


def _is_made_of(marker: Path, digest: str) -> bool:
    try:
        return bool(read_json(marker) == {"made_of": digest})
    except ArtifactError:  # damaged: the parts are made again
        return False


def _describe(classifier: Classifier, files: tuple[Path, ...]) -> list[object]:
    spec, photos = classifier.spec, []
    for file in files:
        facts = file.stat() if file.is_file() else None
        photos.append([str(file), facts.st_size if facts else -1, facts.st_mtime_ns if facts else -1])
    members = [[member.sha256, member.size_px, member.bank_sha256] for member in spec.members]
    models = [[model.precision, asdict(model.inference)] for model in spec.models]
    finish = encode(spec.finish.neighbours) if spec.finish else None
    return [members, models, encode(classifier.level), finish, encode(spec.classes), photos]


def _shifted(on_photo: Callable[[int, int], None], start: int, total: int) -> Callable[[int, int], None]:
    return lambda done, _: on_photo(start + done, total)


def _save_part(path: Path, digest: str, part: ProbabilityTable) -> None:
    problems = json.dumps({str(row): reason for row, reason in part.problems.items()}, ensure_ascii=False)
    save_arrays(path, probs=part.probs_NG, problems=problems, made_of=digest)


def _load_part(path: Path, digest: str, num_rows: int, num_classes: int) -> ProbabilityTable | None:
    data = load_arrays(path)
    if data is None or data.keys() != {"probs", "problems", "made_of"} or str(data["made_of"]) != digest:
        return None  # none yet, damaged, or of another model: it is made again
    if data["probs"].shape != (num_rows, num_classes):
        return None
    problems = json.loads(str(data["problems"]))
    return ProbabilityTable(data["probs"], {int(row): reason for row, reason in problems.items()})
