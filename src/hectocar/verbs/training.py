"""Verbs that train and fit: ``train``, ``finish``, ``ablate``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hectocar.config.schema import Config
from hectocar.errors import ConfigError
from hectocar.progress import NoProgress, Progress
from hectocar.results import Result
from hectocar.verbs.configuration import complete_config
from hectocar.verbs.paths import AnyPath, to_path, to_paths

if TYPE_CHECKING:
    from hectocar.finishing.finish import FinishResult
    from hectocar.lab.ablation import AblationPlan, AblationRun


@dataclass(frozen=True, repr=False)
class TrainResult(Result):
    """The best epoch of each fold."""

    folder: Path
    folds: dict[int, dict[str, Any]]

    def table(self) -> list[list[str]]:
        shifted = any("shifted_log_loss" in best for best in self.folds.values())
        rows = [["fold", "log loss", *(["shifted"] if shifted else []), "top-1", "top-5", "epoch", "weights", "size px"]]
        for fold, best in self.folds.items():
            losses = [f"{best[key]:.4f}" for key in ("log_loss", *(["shifted_log_loss"] if shifted else []))]
            shares = [f"{best[key]:.1%}" for key in ("top1", "top5")]
            rows.append([str(fold), *losses, *shares, str(best["epoch"]), best["weights"], str(best["size_px"])])
        return rows


def train(
    data: AnyPath,
    out: AnyPath,
    config: Config | str | None = None,
    *,
    folds: int | Sequence[int] | Literal["all"] = 0,
    audit: AnyPath | None = None,
    weights: AnyPath | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> TrainResult:
    """Trains folds of a run.

    Args:
        data: The photographs.
        out: The run folder.
        config: See ``load_config``; None is the default configuration, the published recipe.
        folds: Number of the fold to hold out, several, or ``all``.
        audit: An audit to obey.
        weights: Pretrained backbone: a file, ``hub`` or ``none``.
        resume: Go on with the run in ``out``.
        device: ``auto``, ``cpu``, ``cuda`` ...
        progress: Receives bars and lines.

    Raises:
        HectocarError: A wrong option, a damaged input, or a run that is there already.
    """
    from hectocar.network.arithmetic import choose_device
    from hectocar.training.run import check_folds, start_run, train_folds

    whole, receiver = complete_config(config, audit, weights), progress or NoProgress()
    chosen = _choose_folds(folds, whole.data.num_folds)
    check_folds(whole, chosen)
    place = choose_device(device)
    run = start_run(Path(out), Path(data), whole, receiver, resume=resume, device=place)
    return TrainResult(Path(out), train_folds(run, chosen, place, receiver))


def _choose_folds(folds: int | Sequence[int] | str, num_folds: int) -> list[int]:
    if folds == "all":
        return list(range(num_folds))
    if isinstance(folds, str):
        raise ConfigError(f"folds is {folds!r}; allowed: 'all', the number of a fold, or several numbers")
    return [folds] if isinstance(folds, int) else list(folds)


def finish(
    runs: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    data: AnyPath | None = None,
    audit: AnyPath | None = None,
    views: Sequence[str] | None = None,
    screen: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> "FinishResult":
    """Fits views, neighbours, calibration and blend on out-of-fold answers, and makes the bundle.

    Args:
        runs: One run or several of the same photographs and classes.
        out: The bundle.
        data: Where the photographs lie now; None means where they were.
        audit: Give the expected loss without this audit's suspects, too.
        views: Candidates, see the README; None tries all.
        screen: Try views that are hopeless on a tenth of the photographs on no others.
        device: ``auto``, ``cpu``, ``cuda`` ...
        progress: Receives bars and lines.

    Raises:
        ArtifactError: Runs that do not belong together, or another bundle stands in ``out``.
        ConfigError: An unknown view.
    """
    from hectocar.dataset.run_inputs import read_run
    from hectocar.photos.views import VIEWS, find_views

    chosen = tuple(VIEWS) if views is None else tuple(views)
    find_views(chosen)
    opened = [read_run(folder) for folder in to_paths(runs)]

    from hectocar.finishing.finish import finish_runs  # loads torch: what is no view or no run is refused before
    from hectocar.network.arithmetic import choose_device

    return finish_runs(
        opened,
        Path(out),
        data_folder=to_path(data),
        audit_folder=to_path(audit),
        views=chosen,
        screen=screen,
        device=choose_device(device),
        progress=progress or NoProgress(),
    )


@dataclass(frozen=True, repr=False)
class AblationResult(Result):
    """Which variants differ: mean and standard error, differences paired by seed and fold."""

    folder: Path
    plan: "AblationPlan"
    runs: "Sequence[AblationRun]"
    rows: list[list[str]]

    def table(self) -> list[list[str]]:
        return self.rows


def ablate(
    plan: AnyPath,
    data: AnyPath,
    out: AnyPath,
    *,
    settings: Sequence[str] = (),
    audit: AnyPath | None = None,
    weights: AnyPath | None = None,
    jobs: int = 1,
    device: str = "auto",
    progress: Progress | None = None,
) -> AblationResult:
    """Trains variants x seeds x folds and says which differ; the same call again goes on.

    Args:
        plan: A YAML file, or the name of a plan that comes with the package.
        data: The photographs.
        out: Gets the runs, table.md, plot.png and runs.csv.
        settings: ``key=value`` over every variant.
        audit: An audit to obey.
        weights: Pretrained backbone.
        jobs: Runs side by side.
        device: ``auto``, ``cpu``, ``cuda`` ...
        progress: Receives bars and lines.

    Raises:
        ConfigError: A plan that cannot be read or trained.
    """
    from hectocar.lab.ablation import read_plan, run_ablation
    from hectocar.lab.ablation_report import save_ablation
    from hectocar.network.arithmetic import choose_device

    chosen = {"data.audit": audit, "network.weights": weights}
    whole = read_plan(str(plan), settings, {key: str(value) for key, value in chosen.items() if value is not None})
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; allowed: 1 or more")
    runs = run_ablation(
        whole, Path(data), Path(out), device=choose_device(device), num_jobs=jobs, progress=progress or NoProgress()
    )
    return AblationResult(Path(out), whole, runs, save_ablation(whole, runs, Path(out)))
