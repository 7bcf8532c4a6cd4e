"""A submission: built from predictions, checked against the sample, written so that a crash leaves no half file, read back.

Rows are joined by id and columns by name, never by order. Shapes: N photographs, C class columns, G trained classes (the
contest's equivalent classes trained as one).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.dataset.photo_list import ID_COLUMN
from hectocar.disk.outputs import replace_own_file
from hectocar.errors import ArtifactError
from hectocar.scoring.sample_form import SampleForm, check_class_header, read_sample
from hectocar.tables import check_unique, describe_problems, first_few, listed, name_problems, normalize_name, read_csv

__all__ = ["EQUIVALENT_POLICIES", "EquivalentPolicy", "SampleForm", "Submission", "build_submission"]
__all__ += ["check_names", "check_submission", "check_values"]
__all__ += ["read_sample", "read_submission", "write_equivalent_mass", "write_submission"]

EquivalentPolicy = Literal["whole", "split", "frequency"]
"""Which column of a submission gets the mass of a merged class; `write_equivalent_mass` says what each does."""
EQUIVALENT_POLICIES: tuple[EquivalentPolicy, ...] = get_args(EquivalentPolicy)
SUM_TOLERANCE = 1e-6
_DIGITS = "%.9g"
"""Nine digits move a row's sum by at most 5e-10 and survive a second round trip unchanged; full repr doubles the file."""


@dataclass(frozen=True)
class Submission:
    """A table of probabilities: a row per id, a column per class."""

    ids: tuple[str, ...]
    columns: tuple[str, ...]
    probs: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.probs.shape != (len(self.ids), len(self.columns)):
            raise ValueError(
                f"probs has shape {self.probs.shape}; allowed: {(len(self.ids), len(self.columns))}, ids x columns"
            )


def build_submission(form: SampleForm, image_ids: Sequence[str], class_names: Sequence[str], probs_NC: ArrayLike) -> Submission:
    """Bring predictions into the sample's order and spelling.

    Args:
        image_ids: the id of each row of `probs_NC`, in any order.
        class_names: the class of each column of `probs_NC`, in any order.

    Raises:
        ArtifactError: ids or class names differ from the sample's, or one of them is given twice.
        ValueError: `probs_NC` is not ids x class names.
    """
    predicted = Submission(tuple(image_ids), tuple(class_names), np.asarray(probs_NC, dtype=np.float64))
    check_names(form, predicted.ids, predicted.columns)
    row_of = {normalize_name(name): row for row, name in enumerate(predicted.ids)}
    column_of = {normalize_name(name): column for column, name in enumerate(predicted.columns)}
    rows = [row_of[normalize_name(name)] for name in form.ids]
    columns = [column_of[normalize_name(name)] for name in form.columns]
    return Submission(form.ids, form.columns, predicted.probs[np.ix_(rows, columns)])


def check_names(form: SampleForm, image_ids: Sequence[str], class_names: Sequence[str]) -> None:
    """Raise ArtifactError where these ids or class names are not the sample's, in whatever order."""
    problems = name_problems("ids", image_ids, form.ids, str(form.path))
    problems += name_problems("class columns", class_names, form.columns, str(form.path))
    if problems:
        raise ArtifactError(
            describe_problems(f"the predictions do not fit {form.path}", problems, "predict with the model of this contest")
        )


def check_submission(submission: Submission, form: SampleForm) -> None:
    """Raise ArtifactError that lists everything in which the submission breaks the sample's form or is no probability."""
    problems = _all_problems(submission, form)
    if problems:
        raise ArtifactError(
            describe_problems(f"the submission does not fit {form.path}", problems, "build it with build_submission")
        )


def check_values(submission: Submission) -> None:
    """Raise ArtifactError where the evaluator would refuse a value; it divides by the row's sum, so that need not be 1."""
    problems = _value_problems(submission)
    if problems:
        raise ArtifactError(describe_problems("the submission cannot be scored", problems, "predict again"))


def write_submission(submission: Submission, path: str | Path, form: SampleForm | None = None) -> None:
    """Check, then write the submission as the sample is written: UTF-8 with a byte-order mark and CRLF line ends.

    The same submission always gives the same bytes. Whatever fails, a file already at `path` stays as it was.

    Args:
        form: also check against this sample; without it, only for what any submission must hold.

    Raises:
        ArtifactError: a check failed, or the file cannot be written.
    """
    target = Path(path)
    problems = _all_problems(submission, form or SampleForm(submission.ids, submission.columns, target))
    if problems:
        raise ArtifactError(
            describe_problems(f"{target} was not written", problems, "build the submission with build_submission")
        )
    try:
        replace_own_file(target, "submission", lambda part: _write_rows(part, submission))
    except UnicodeError as problem:
        raise ArtifactError(f"{target} cannot be written: {problem}; rename what is not UTF-8") from problem


def read_submission(path: str | Path) -> Submission:
    """Read a submission as it stands; `check_submission` says whether it fits a sample.

    Raises:
        ArtifactError: no csv in UTF-8, no `ID` header, an id or column empty or twice, a row of another length, a cell
            that is not a number.
    """
    header, rows = read_csv(path, "submission", ArtifactError)
    columns = check_class_header(header, path, ArtifactError)
    ids: list[str] = []
    lines: list[int] = []
    probs: list[NDArray[np.float64]] = []
    wrong_length: list[str] = []
    unreadable: list[str] = []
    for line, row in rows:
        ids.append(row[0])
        lines.append(line)
        numbers = _numbers(row[1:])
        if len(row) != len(header):
            wrong_length.append(f"line {line} ({row[0]}) has {len(row)}")
        elif numbers is None:
            cells = zip(columns, row[1:], strict=True)
            unreadable += [f"line {line} ({row[0]}), column {name!r}: {cell!r}" for name, cell in cells if not _numbers([cell])]
        else:
            probs.append(np.array(numbers))
    if wrong_length:
        raise ArtifactError(f"{path}: {listed(wrong_length)} cells; allowed: {len(header)} as in the header; write it again")
    check_unique(ids, ID_COLUMN, lines, path, ArtifactError)
    if unreadable:
        raise ArtifactError(f"{path}: not a number in {listed(unreadable)}; allowed: numbers such as 0.25 or 1e-7")
    return Submission(tuple(ids), columns, np.stack(probs))


def write_equivalent_mass(
    probs_trained_NG: ArrayLike,
    trained_members: Sequence[Sequence[int]],
    num_columns: int,
    *,
    policy: EquivalentPolicy = "whole",
    frequency_C: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Spread merged classes back over the contest's columns; what a class had, its columns have together.

    Args:
        trained_members: for each trained class the contest columns it stands for; every column exactly once.
        policy: `whole` puts all mass into the first member's column, which is safe whether the evaluator adds the columns
            of equivalent classes or takes their larger (RECIPE.md); `split` deals it evenly; `frequency` deals it as
            often as each member's name occurs in training, which is the best fixed deal where the evaluator reads the
            label's own column only.
        frequency_C: for `frequency`, how often each contest column's name occurs; a class of which no name occurs is
            split evenly.

    Raises:
        ValueError: shapes or members that do not fit, another policy, a missing or negative frequency.
    """
    probs = np.asarray(probs_trained_NG, dtype=np.float64)
    if probs.ndim != 2 or probs.shape[1] != len(trained_members):
        raise ValueError(f"probs_trained_NG has shape {probs.shape}; allowed: (rows, {len(trained_members)} trained classes)")
    everyone = sorted(column for members in trained_members for column in members)
    if everyone != list(range(num_columns)) or not all(trained_members):
        raise ValueError(f"trained_members must hold each column 0 to {num_columns - 1} exactly once, and no empty class")
    share_C = _member_shares(trained_members, num_columns, policy, frequency_C)
    probs_NC = np.zeros((len(probs), num_columns))
    for trained, members in enumerate(trained_members):
        for column in members:
            if share_C[column] > 0.0:
                probs_NC[:, column] = probs[:, trained] * share_C[column]
    return probs_NC


def _member_shares(
    trained_members: Sequence[Sequence[int]], num_columns: int, policy: EquivalentPolicy, frequency_C: ArrayLike | None
) -> NDArray[np.float64]:
    """(C,) What part of its trained class's mass each contest column gets; 1 in sum over the members of a class."""
    if policy not in EQUIVALENT_POLICIES:
        raise ValueError(f"policy is {policy!r}; allowed: {', '.join(EQUIVALENT_POLICIES)}")
    weight_C = np.ones(num_columns)
    if policy == "frequency":
        if frequency_C is None:
            raise ValueError("policy is 'frequency' and frequency_C is None; allowed: a count for each contest column")
        weight_C = np.asarray(frequency_C, dtype=np.float64)
        if weight_C.shape != (num_columns,) or not np.isfinite(weight_C).all() or weight_C.min() < 0.0:
            raise ValueError(
                f"frequency_C has shape {weight_C.shape}; allowed: ({num_columns},) of finite numbers of 0 or more"
            )
    share_C = np.zeros(num_columns)
    for members in trained_members:
        columns = list(members)
        if policy == "whole":
            share_C[columns[0]] = 1.0
        else:
            total = weight_C[columns].sum()
            share_C[columns] = weight_C[columns] / total if total > 0.0 else 1.0 / len(columns)
    return share_C


def _write_rows(path: Path, submission: Submission) -> None:
    cells = ",".join([_DIGITS] * len(submission.columns))  # one template a row: half the time of formatting cell by cell
    positive_zero = submission.probs + 0.0  # -0.0 would be written as "-0"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        file.write(",".join(map(_quoted, [ID_COLUMN, *submission.columns])) + "\r\n")
        for name, row_C in zip(submission.ids, positive_zero, strict=True):
            file.write(f"{_quoted(name)},{cells % tuple(row_C.tolist())}\r\n")


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\r\n') else cell


def _numbers(cells: list[str]) -> list[float] | None:
    """The cells as floats, or None. float() alone would also take 1_0 and digits of other scripts."""
    joined = "".join(cells)
    if not joined.isascii() or "_" in joined:
        return None
    try:
        return list(map(float, cells))
    except ValueError:
        return None


def _all_problems(submission: Submission, form: SampleForm) -> list[str]:
    problems = name_problems("ids", submission.ids, form.ids, str(form.path))
    problems += name_problems("class columns", submission.columns, form.columns, str(form.path))
    if not problems:  # the order of foreign or missing names says nothing
        problems += _order_problems("id", submission.ids, form.ids)
        problems += _order_problems("class column", submission.columns, form.columns)
    return problems + _value_problems(submission) + _sum_problems(submission)


def _order_problems(kind: str, found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    keys = zip(map(normalize_name, found), map(normalize_name, wanted), strict=True)
    for place, (key, wanted_key) in enumerate(keys, start=1):
        if key != wanted_key:
            return [f"{kind} {place} is {found[place - 1]!r}; allowed: {wanted[place - 1]!r}, the order of the sample"]
    other = [repr(name) for name, wanted_name in zip(found, wanted, strict=True) if name != wanted_name]
    if other:
        return [f"{kind} in another Unicode form than the sample's: {listed(other)}; allowed: the sample's own spelling"]
    return []


def _value_problems(submission: Submission) -> list[str]:
    probs = submission.probs
    finite = np.isfinite(probs)
    problems = []
    masks = {"not finite": ~finite, "outside [0, 1]": finite & ((probs < 0.0) | (probs > 1.0))}
    for what, wrong in masks.items():
        if wrong.any():
            cells = (f"{submission.ids[r]}, {submission.columns[c]!r}: {probs[r, c]}" for r, c in np.argwhere(wrong))
            problems.append(f"{int(wrong.sum())} values {what}: {first_few(cells)}; allowed: 0 to 1")
    empty = np.flatnonzero(finite.all(axis=1) & ~probs.any(axis=1))
    if len(empty):
        rows = (submission.ids[row] for row in empty)
        problems.append(f"{len(empty)} rows hold only zeros: {first_few(rows)}; allowed: a sum of 1")
    return problems


def _sum_problems(submission: Submission) -> list[str]:
    sums = np.where(np.isfinite(submission.probs), submission.probs, np.nan).sum(axis=1)
    # Rows of zeros and of NaN have been named already; the comparison is False for NaN.
    wrong = np.flatnonzero((np.abs(sums - 1.0) > SUM_TOLERANCE) & (sums != 0.0))
    if not len(wrong):
        return []
    rows = (f"{submission.ids[row]}: {sums[row]:.9g}" for row in wrong)
    return [f"{len(wrong)} rows do not sum to 1: {first_few(rows)}; allowed: 1 within {SUM_TOLERANCE:g}"]
