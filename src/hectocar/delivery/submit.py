"""From a list of photographs to a probability table in the form that was asked for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hectocar.dataset.photo_list import PhotoList
from hectocar.delivery.predictor import Classifier
from hectocar.delivery.stream import parts_folder, predict_in_parts, remove_parts
from hectocar.errors import DataError
from hectocar.progress import Progress, count_with
from hectocar.scoring.submission import (
    EquivalentPolicy,
    SampleForm,
    Submission,
    build_submission,
    check_names,
    read_sample,
    write_equivalent_mass,
    write_submission,
)


@dataclass(frozen=True)
class Answer:
    """What was predicted; ``unreadable`` maps ids to why their row is the class prior."""

    photos: PhotoList
    probs_NG: NDArray[np.float64]
    unreadable: dict[str, str]


def check_form(classifier: Classifier, photos: PhotoList) -> None:
    """Says before the work, not after it, that the answer would not fit the sample.

    Raises:
        ArtifactError: The sample has other ids, or other classes than the model.
        DataError: The sample cannot be read.
    """
    if photos.sample is not None:
        check_names(read_sample(photos.sample), photos.ids, classifier.classes.names)


def predict_photos(
    classifier: Classifier, photos: PhotoList, progress: Progress, *, num_workers: int = 0, out: Path | None = None
) -> Answer:
    """Predicts every photograph; one that cannot be read gets the class prior and is named.

    Args:
        classifier: The model.
        photos: What to predict.
        progress: Receives a bar and lines.
        num_workers: Decoding threads, 0 for one per core.
        out: Where the answer will be saved: parts are kept beside it, and taken up again after an interruption.

    Raises:
        DataError: None of them can be read.
    """
    on_photo = count_with(progress, "predicting")
    if out is None:
        table = classifier.predict_proba(photos.files, num_workers=num_workers, on_photo=on_photo)
    else:
        folder = parts_folder(out)
        table, num_found = predict_in_parts(classifier, photos.files, folder, num_workers=num_workers, on_photo=on_photo)
        if num_found:
            progress.note(f"{num_found} of {len(photos.files)} photographs were predicted before ({folder}), and are kept")
    unreadable = {photos.ids[row]: reason for row, reason in sorted(table.problems.items())}
    if len(unreadable) == len(photos.ids):
        image_id, reason = next(iter(unreadable.items()))
        raise DataError(f"none of the {len(photos.ids)} photographs can be read, first {image_id}: {reason}")
    for image_id, reason in unreadable.items():
        progress.note(f"cannot be read, its row is the class prior: {image_id}: {reason}")
    return Answer(photos=photos, probs_NG=table.probs_NG, unreadable=unreadable)


def make_submission(
    classifier: Classifier, answer: Answer, policy: EquivalentPolicy = "whole"
) -> tuple[Submission, SampleForm]:
    """Brings an answer into the sample's form, or without a sample into ID plus the class names in code-point order.

    Args:
        classifier: The model that gave the answer.
        answer: Over trained classes.
        policy: How the mass of equivalent classes is spread over their columns, see ``write_equivalent_mass``.

    Raises:
        DataError: The sample asks for other photographs or classes.
    """
    classes = classifier.classes
    if answer.photos.sample is not None:
        form = read_sample(answer.photos.sample)
    else:
        form = SampleForm(ids=answer.photos.ids, columns=classes.names, path=Path("(no sample)"))
    probs_NC = write_equivalent_mass(
        answer.probs_NG, classes.member_columns(), len(classes.names), policy=policy, frequency_C=classifier.spec.frequency
    )
    return build_submission(form, answer.photos.ids, classes.names, probs_NC), form


def save_submission(classifier: Classifier, answer: Answer, path: Path, policy: EquivalentPolicy = "whole") -> Submission:
    """Checks the submission by the evaluator's rules and writes it whole or not at all; the parts beside it go."""
    submission, form = make_submission(classifier, answer, policy)
    write_submission(submission, path, form)
    remove_parts(parts_folder(path))
    return submission
