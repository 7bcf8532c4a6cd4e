"""The whole path on the showroom: render, train, bundle, predict, check, score, draw."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hectocar.config.reader import read_config
from hectocar.dataset.classes import read_equivalent_pairs
from hectocar.dataset.photo_list import find_photo_list
from hectocar.delivery.bundle import write_bundle
from hectocar.delivery.predictor import Classifier
from hectocar.delivery.runs import join_runs
from hectocar.delivery.submit import predict_photos, save_submission
from hectocar.disk.outputs import MARK, claim_folder, list_content, mark_folder
from hectocar.disk.writing import name_beside
from hectocar.errors import ArtifactError
from hectocar.lab.preview import draw_predictions, draw_preview
from hectocar.network.arithmetic import choose_device
from hectocar.progress import Progress, count_with
from hectocar.scoring.submission import read_submission
from hectocar.scoring.truth import ScoreReport, read_truth, score_submission
from hectocar.showroom import ShowroomSpec, write_showroom
from hectocar.training.run import create_run, train_folds

PARTS = ("showroom", "run", "bundle", "submission.csv", "predictions.png", "preview.png")


@dataclass(frozen=True)
class DemoResult:
    """What the demo made, and how good the submission is."""

    folder: Path
    score: ScoreReport
    num_classes: int

    @property
    def uniform_log_loss(self) -> float:
        """Log loss of the same probability for every class."""
        return math.log(self.num_classes)

    def table(self) -> list[str]:
        """Lines for the screen."""
        return [
            *self.score.table(),
            f"log loss {self.score.summed:.3f} (equivalent classes summed); a uniform guess has {self.uniform_log_loss:.3f}",
            "",
            f"submission   {self.folder / 'submission.csv'}  (passed its check)",
            f"model bundle {self.folder / 'bundle'}",
            f"predictions  {self.folder / 'predictions.png'}",
            f"augmentation {self.folder / 'preview.png'}",
            f"photographs  {self.folder / 'showroom'}  (truth beside them in truth/)",
        ]


def run_demo(
    folder: Path, progress: Progress, *, spec: ShowroomSpec | None = None, settings: tuple[str, ...] = ()
) -> DemoResult:
    """Runs every step that a contestant would, on rendered cars.

    Args:
        folder: Gets everything; what an earlier demo left there is replaced. Other content is refused.
        progress: Receives bars and lines.
        spec: What to render; the default is the demo's own.
        settings: ``key=value`` texts over the preset ``demo``.

    Raises:
        ArtifactError: The folder holds something that is not a demo's, or another demo is at work there.
    """
    with claim_folder(folder, "demo"):
        mark_folder(folder, "demo")
        _clear(folder)
        return _run_demo(folder, progress, spec, settings)


def _run_demo(folder: Path, progress: Progress, spec: ShowroomSpec | None, settings: tuple[str, ...]) -> DemoResult:
    showroom = folder / "showroom"
    spec = spec or ShowroomSpec(num_classes=24, train_per_class=80, test_per_class=8)
    write_showroom(showroom, spec, count_with(progress, "rendering cars"))
    config = read_config("demo", None, settings)
    draw_preview(showroom, config, folder / "preview.png")
    device = choose_device()
    run = create_run(folder / "run", showroom, config, progress, device)
    train_folds(run, [0], device, progress)
    write_bundle(join_runs([run]), folder / "bundle")
    classifier = Classifier.load(folder / "bundle")
    photos = find_photo_list([showroom / "test.csv"])
    answer = predict_photos(classifier, photos, progress)
    save_submission(classifier, answer, folder / "submission.csv")
    answers = read_truth(showroom / "truth" / "answers.csv")
    pairs = read_equivalent_pairs(showroom / "equivalent_classes.csv")
    score = score_submission(read_submission(folder / "submission.csv"), answers, pairs)
    truth = dict(zip(answers.ids, answers.labels, strict=True))
    items = []
    for row in range(min(16, len(photos.ids))):
        best = int(np.argmax(answer.probs_NG[row]))
        name, prob = classifier.classes.label(best), float(answer.probs_NG[row, best])
        items.append((photos.files[row], name, prob, truth[photos.ids[row]]))
    draw_predictions(items, folder / "predictions.png")
    return DemoResult(folder=folder, score=score, num_classes=len(classifier.classes.names))


def _clear(folder: Path) -> None:
    """Removes what an earlier demo made: the folder has the demo's mark."""
    foreign = [name for name in list_content(folder) if name not in (*PARTS, MARK) and not name.endswith(MARK)]
    if foreign:
        raise ArtifactError(f"--out {folder}: holds {foreign[0]!r}, which no demo made; give an empty or a new folder")
    for name in PARTS:
        part = folder / name
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
            name_beside(part, MARK).unlink(missing_ok=True)
