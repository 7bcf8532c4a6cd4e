"""Predictions of many photographs, written part by part beside the answer, so that an interruption loses one part at most.

OUT.parts/<n>.npz (probabilities, problems) are taken up again while model, choice of views and folds, and photographs are
the same; they go when the answer stands. A part is one list of batches whatever the number of workers and wherever the
work was cut, so the answer is the same to the last digit.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hectocar.artifacts import compute_digest, load_arrays, make_folder, read_json, save_arrays, write_json
from hectocar.delivery.predictor import Classifier, ProbabilityTable
from hectocar.errors import ArtifactError

PART_PHOTOS = 256


def parts_folder(out: Path) -> Path:
    """Where the parts of an answer lie."""
    return out.with_name(f"{out.name}.parts")


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
    _open_folder(folder, compute_digest(_describe(classifier, files)))
    parts, num_found = [], 0
    for start in range(0, len(files), PART_PHOTOS):
        chunk = files[start : start + PART_PHOTOS]
        path = folder / f"{start // PART_PHOTOS:06d}.npz"
        part = _load_part(path, len(chunk), classifier.classes.num_trained)
        if part is None:
            part = classifier.predict_table(
                chunk, num_workers=num_workers, on_photo=_shifted(on_photo, start, len(files)) if on_photo else None
            )
            _save_part(path, part)
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
    """Removes the parts once the answer stands."""
    shutil.rmtree(folder, ignore_errors=True)


def _open_folder(folder: Path, digest: str) -> None:
    marker = folder / "parts.json"
    if folder.exists() and not marker.is_file():
        raise ArtifactError(f"{folder}: stands where the parts of the answer are kept, and is none of ours; move it away")
    if folder.exists() and read_json(marker) != {"made_of": digest}:
        shutil.rmtree(folder)
    if not folder.exists():
        make_folder(folder, lambda temporary: write_json(temporary / marker.name, {"made_of": digest}))


def _describe(classifier: Classifier, files: tuple[Path, ...]) -> list[object]:
    spec, photos = classifier.spec, []
    for file in files:
        facts = file.stat() if file.is_file() else None
        photos.append([str(file), facts.st_size if facts else -1, facts.st_mtime_ns if facts else -1])
    members = [[member.sha256, member.size_px, member.bank_sha256] for member in spec.members]
    level = classifier.level.to_json() if classifier.level else None
    models = [[model.precision, asdict(model.inference)] for model in spec.models]
    finish = spec.finish.neighbours.to_json() if spec.finish else None
    return [members, models, level, finish, spec.classes.to_json(), photos]


def _shifted(on_photo: Callable[[int, int], None], start: int, total: int) -> Callable[[int, int], None]:
    return lambda done, _: on_photo(start + done, total)


def _save_part(path: Path, part: ProbabilityTable) -> None:
    problems = json.dumps({str(row): reason for row, reason in part.problems.items()}, ensure_ascii=False)
    save_arrays(path, probs=part.probs_NG, problems=problems)


def _load_part(path: Path, num_rows: int, num_classes: int) -> ProbabilityTable | None:
    data = load_arrays(path)
    if data is None or data.keys() != {"probs", "problems"} or data["probs"].shape != (num_rows, num_classes):
        return None  # none yet, or damaged: it is made again
    problems = json.loads(str(data["problems"]))
    return ProbabilityTable(data["probs"], {int(row): reason for row, reason in problems.items()})
