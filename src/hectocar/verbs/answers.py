"""Verbs that answer: ``predict``, ``score``."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hectocar.disk.outputs import check_folder, claim_file, claim_folder
from hectocar.errors import ConfigError
from hectocar.progress import NoProgress, Progress
from hectocar.results import Result
from hectocar.verbs.paths import AnyPath, to_path, to_paths

if TYPE_CHECKING:
    from hectocar.delivery.predictor import Classifier
    from hectocar.delivery.submit import Answer
    from hectocar.scoring.photo_losses import PhotoLosses
    from hectocar.scoring.submission import EquivalentPolicy
    from hectocar.scoring.truth import ScoreReport


@dataclass(frozen=True, repr=False)
class PredictResult(Result):
    """Probabilities of photographs."""

    classifier: "Classifier"
    answer: "Answer"
    path: Path | None
    """Where the submission was written."""

    def table(self) -> list[list[str]]:
        """The best three classes of each photograph."""
        names = self.classifier.names
        rows = [["ID", *(cell for place in ("1st", "2nd", "3rd") for cell in (place, "probability"))]]
        for row, image_id in enumerate(self.answer.photos.ids):
            probs_G = self.answer.probs_NG[row]
            best = (-probs_G).argsort(kind="stable")[:3].tolist()
            cells = [cell for g in best for cell in (names[g], f"{probs_G[g]:.1%}")]
            problem = self.answer.unreadable.get(image_id)
            cells = cells if problem is None else [f"cannot be read: {problem}"]
            rows.append([image_id, *cells, *[""] * (6 - len(cells))])
        return rows

    def save(self, path: AnyPath, equivalent: "EquivalentPolicy" = "whole", *, overwrite: bool = False) -> None:
        """Writes a submission, checked by the evaluator's rules, whole or not at all."""
        from hectocar.delivery.submit import save_submission

        with claim_file(Path(path), "submission", inputs=self.answer.photos.files, overwrite=overwrite):
            save_submission(self.classifier, self.answer, Path(path), equivalent)

    def draw(
        self, path: AnyPath, *, true_names: Mapping[str, str] | None = None, num_photos: int = 12, overwrite: bool = False
    ) -> None:
        """Writes a PNG of the first photographs with their best class: green is right, red is wrong, grey is not known.

        Args:
            path: The PNG.
            true_names: By ID, as ``ScoreResult.true_names`` has them.
            num_photos: So many at most.
            overwrite: Replace ``path`` even if it is a file of yours.
        """
        from hectocar.lab.preview import draw_predictions

        photos, probs_NG, known = self.answer.photos, self.answer.probs_NG, true_names or {}
        best_N = probs_NG.argmax(axis=1).tolist()[:num_photos]
        items = [
            (photos.files[row], self.classifier.names[g], float(probs_NG[row, g]), known.get(photos.ids[row]))
            for row, g in enumerate(best_N)
        ]
        with claim_file(Path(path), "preview", inputs=photos.files, overwrite=overwrite):
            draw_predictions(items, Path(path))

    def explain(
        self,
        path: AnyPath,
        *,
        ids: Sequence[str] | None = None,
        true_names: Mapping[str, str] | None = None,
        grid: int = 8,
        overwrite: bool = False,
    ) -> None:
        """Writes a PNG of where answers come from: which tiles of a photograph carry its best class (red), or speak against it.

        Args:
            path: The PNG.
            ids: Photographs; None takes the two surest answers and the two least sure.
            true_names: As in ``draw``.
            grid: Tiles per side; the whole ensemble is asked grid x grid + 1 times a photograph.
            overwrite: Replace ``path`` even if it is a file of yours.

        Raises:
            ConfigError: An ID that was not predicted, or a grid out of range.
            DataError: A photograph cannot be read.
        """
        from hectocar.lab.explain import draw_explanations, occlusion_map

        photos, known = self.answer.photos, true_names or {}
        file_of = dict(zip(photos.ids, photos.files, strict=True))
        if ids is None:
            order = (-self.answer.probs_NG.max(axis=1)).argsort(kind="stable").tolist()
            readable = [photos.ids[row] for row in order if photos.ids[row] not in self.answer.unreadable]
            ids = list(dict.fromkeys([*readable[:2], *readable[-2:]]))
        if unknown := [image_id for image_id in ids if image_id not in file_of]:
            raise ConfigError(f"ids has {unknown[0]!r}; allowed: IDs of the photographs that were predicted")
        with claim_file(Path(path), "preview", inputs=photos.files, overwrite=overwrite):
            maps = [(file_of[one], occlusion_map(self.classifier, file_of[one], grid), known.get(one)) for one in ids]
            draw_explanations(maps, Path(path))


def predict(
    model: AnyPath,
    photos: AnyPath | Sequence[AnyPath],
    out: AnyPath | None = None,
    *,
    sample: AnyPath | None = None,
    views: int | None = None,
    folds: int | None = None,
    equivalent: "EquivalentPolicy" = "whole",
    workers: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PredictResult:
    """Predicts many photographs; of one that cannot be read the class prior is said, and why.

    Args:
        model: A run or a bundle.
        photos: A csv (ID, img_path), a folder, or photographs.
        out: Writes all probabilities as a submission, part by part: an interrupted call goes on.
        sample: The form to follow; None looks beside the csv.
        views: So many views a photograph at most.
        folds: So many networks of each model.
        equivalent: How the mass of merged classes is spread over their columns.
        workers: 0 takes one per core.
        device: ``auto``, ``cpu``, ``cuda`` ...
        overwrite: Replace ``out`` even if it is a file of yours.
        progress: Receives bars and lines.

    Raises:
        HectocarError: A wrong option, a damaged model, or no readable photograph.
    """
    from hectocar.dataset.photo_list import find_photo_list
    from hectocar.delivery.choice import describe_choice
    from hectocar.delivery.predictor import Classifier
    from hectocar.delivery.submit import check_form, predict_photos, save_submission

    receiver, target = progress or NoProgress(), to_path(out)
    paths = to_paths(photos)
    with ExitStack() as stack:
        found = find_photo_list(paths, to_path(sample), receiver)
        check = None
        if target is not None:
            folders = [path for path in paths if path.is_dir()]  # an answer may lie in one
            inputs = [path for path in (Path(model), *paths, found.sample, *found.files) if path and path not in folders]
            check = stack.enter_context(claim_file(target, "submission", inputs=inputs, overwrite=overwrite))
        classifier = Classifier.load(Path(model), device=device, num_views=views, num_folds=folds)
        if target is not None:
            check_form(classifier, found)
        for line in describe_choice(classifier).splitlines():
            receiver.note(line)
        answer = predict_photos(classifier, found, receiver, num_workers=workers, out=target)
        if check is not None and target is not None:
            check()
            save_submission(classifier, answer, target, equivalent)
    return PredictResult(classifier, answer, target)


@dataclass(frozen=True, repr=False)
class ScoreResult(Result):
    """What a submission costs, and where."""

    report: "ScoreReport"
    losses: "PhotoLosses"
    num_pairs: int
    """Equivalent pairs among the columns."""
    ids: tuple[str, ...]
    submission: Path
    truth: Path

    @property
    def true_names(self) -> dict[str, str]:
        """By ID; of equivalent names the first."""
        return {photo.image_id: photo.true_class.split(" = ")[0] for photo in self.losses.photos}

    def table(self) -> list[list[str]]:
        rows = [["", "rows", "strict", "summed", "maximum", "top-1", "top-5"]]
        for name, part in self.report.parts().items():
            losses = [f"{loss:.5f}" for loss in (part.strict, part.summed, part.maximum)]
            rows.append([name, str(part.num_rows), *losses, f"{part.top1:.2%}", f"{part.top5:.2%}"])
        return rows

    def save(self, folder: AnyPath, *, photos: AnyPath | None = None, top: int = 20, overwrite: bool = False) -> str | None:
        """Writes score.html, per_class.csv and photographs.csv; returns why there are no pictures, if so."""
        from hectocar.disk.outputs import check_unedited
        from hectocar.lab.score_page import EDITED, find_pictures, save_score

        target = Path(folder)
        with claim_folder(target, "score", inputs=[self.submission, self.truth]):
            if not overwrite:
                check_unedited(target, EDITED)
            pictures = find_pictures(to_path(photos), self.truth, self.ids)
            title = f"Score of {self.submission.name}"
            save_score(target, self.report, self.losses, pictures, title=title, top=top, overwrite=overwrite)
        return pictures.problem


def score(submission: AnyPath, truth: AnyPath, *, equivalent: AnyPath | None = None, out: AnyPath | None = None) -> ScoreResult:
    """Scores a submission under each reading of equivalent classes.

    Args:
        submission: As ``predict`` writes it.
        truth: A csv with ID, label and optionally split.
        equivalent: Pairs of names; None looks beside ``truth``.
        out: Where ``save`` will write: a place that cannot be had is refused before the work.

    Raises:
        ArtifactError: The submission would be refused by the evaluator, or does not belong to this truth.
        DataError: The truth cannot be read.
    """
    from hectocar.dataset.classes import read_equivalent_pairs
    from hectocar.dataset.manifest import find_equivalent_pairs
    from hectocar.scoring.photo_losses import compute_photo_losses
    from hectocar.scoring.submission import read_submission
    from hectocar.scoring.truth import read_truth, score_submission

    ours, known = Path(submission), Path(truth)
    if out is not None:
        check_folder(Path(out), "score", inputs=[ours, known])
    table, answers = read_submission(ours), read_truth(known)
    if equivalent is not None:
        pairs = read_equivalent_pairs(Path(equivalent))
    else:
        pairs = find_equivalent_pairs(known.parent, table.columns)
    num_pairs = sum(set(table.columns).issuperset(pair) for pair in pairs)
    report = score_submission(table, answers, pairs)
    return ScoreResult(report, compute_photo_losses(table, answers, pairs), num_pairs, answers.ids, ours, known)
