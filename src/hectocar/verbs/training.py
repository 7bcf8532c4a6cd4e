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
    from hectocar.auditing.relabel import Policy, Round
    from hectocar.finishing.finish import FinishResult
    from hectocar.lab.ablation import AblationPlan, AblationRun


MAX_ROUNDS = 9


@dataclass(frozen=True, repr=False)
class TrainResult(Result):
    """The best epoch of each fold."""

    folder: Path
    folds: dict[int, dict[str, Any]]
    rounds: "Sequence[Round]" = ()
    """With ``relabel`` every training, the last one included."""

    def table(self) -> list[list[str]]:
        shifted = any("shifted_log_loss" in best for best in self.folds.values())
        rows = [["fold", "log loss", *(["shifted"] if shifted else []), "top-1", "top-5", "epoch", "weights", "size px"]]
        for fold, best in self.folds.items():
            losses = [f"{best[key]:.4f}" for key in ("log_loss", *(["shifted_log_loss"] if shifted else []))]
            shares = [f"{best[key]:.1%}" for key in ("top1", "top5")]
            rows.append([str(fold), *losses, *shares, str(best["epoch"]), best["weights"], str(best["size_px"])])
        return rows

    def round_table(self) -> list[list[str]]:
        """All trainings by the same labels, the given ones, with and without the photographs that the last table doubts."""
        doubted = self.rounds[-1].num_doubted if self.rounds else 0
        rows = [["run", "log loss, given labels", f"without {doubted} doubted", "top-1", "photographs"]]
        for one in self.rounds:
            losses = [f"{one.log_loss:.4f}", f"{one.trusted_log_loss:.4f}", f"{one.top1:.1%}"]
            rows.append([one.folder.name, *losses, one.taught])
        return rows


def train(
    data: AnyPath,
    out: AnyPath,
    config: Config | str | None = None,
    *,
    folds: int | Sequence[int] | Literal["all"] = 0,
    audit: AnyPath | None = None,
    weights: AnyPath | None = None,
    relabel: int = 0,
    relabel_by: "Policy | None" = None,
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
        relabel: So often the networks decide about doubtful labels, and all is trained again; needs all folds. Each round
            leaves a run beside ``out`` with a decisions.csv, which may be edited.
        relabel_by: ``drop`` leaves doubtful photographs out of training, ``relabel`` gives them the class that they show,
            ``soften`` mixes both classes; None drops.
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
    _check_relabel(relabel, relabel_by, chosen, whole.data.num_folds)
    place = choose_device(device)
    if relabel:
        from hectocar.auditing.relabel import DEFAULT_POLICY, train_in_rounds

        results, rounds = train_in_rounds(
            Path(out), Path(data), whole, num_rounds=relabel, policy=relabel_by or DEFAULT_POLICY, resume=resume, device=place,
            progress=receiver,
        )  # fmt: skip
        return TrainResult(Path(out), results, rounds)
    run = start_run(Path(out), Path(data), whole, receiver, resume=resume, device=place)
    return TrainResult(Path(out), train_folds(run, chosen, place, receiver))


def _check_relabel(relabel: int, relabel_by: str | None, folds: Sequence[int], num_folds: int) -> None:
    if not relabel and relabel_by is None:
        return
    from hectocar.auditing.relabel import POLICIES

    if not 0 <= relabel <= MAX_ROUNDS:
        raise ConfigError(f"--relabel is {relabel}; allowed: 0 (off) to {MAX_ROUNDS}")
    if relabel_by is not None and relabel_by not in POLICIES:
        raise ConfigError(f"--relabel-by is {relabel_by!r}; allowed: {', '.join(POLICIES)}")
    if relabel_by is not None and not relabel:
        raise ConfigError(f"--relabel-by {relabel_by} says how, and --relabel ROUNDS how often; give both")
    if relabel and sorted(set(folds)) != list(range(num_folds)):
        raise ConfigError("--relabel needs predictions of every photograph by networks that did not see it; give --fold all")


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
