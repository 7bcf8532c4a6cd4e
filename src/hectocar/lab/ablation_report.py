"""What an ablation says: a table and a plot of each variant beside the base.

Differences are taken pair by pair (same seed, same fold), so that what the pairs share cancels out; their intervals are
Student's, because three seeds are few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from hectocar.disk.outputs import publish_folder
from hectocar.lab.ablation import AblationPlan, AblationRun
from hectocar.tables import csv_text

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over runs."""

    mean: float
    standard_error: float
    """NaN from a single run."""
    half_width: float
    """Of the 95 % interval."""

    def text(self, sign: str = "") -> str:
        return f"{self.mean:{sign}.4f}" + ("" if np.isnan(self.standard_error) else f" ± {self.standard_error:.4f}")


@dataclass(frozen=True)
class VariantRow:
    """One variant of the table; a difference is the variant's loss less the base's, so below 0 is better."""

    name: str
    num_runs: int
    log_loss: Estimate
    shifted: Estimate | None
    top1: float
    difference: Estimate | None
    shifted_difference: Estimate | None
    time_ratio: float | None
    """Processor time as a share of the base's (wall time where a run was resumed)."""


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Mean, standard error, and Student's interval."""
    count = len(values)
    if count < 2:
        return Estimate(float(values[0]), float("nan"), float("nan"))
    error = float(np.std(values, ddof=1) / count**0.5)
    return Estimate(float(np.mean(values)), error, float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * error)


def summarize_ablation(plan: AblationPlan, results: Sequence[AblationRun]) -> list[VariantRow]:
    """One row per variant that has a run, the base first."""
    base = next(iter(plan.variants))
    by_variant = {name: {(r.seed, r.fold): r for r in results if r.variant == name} for name in plan.variants}
    return [_summarize(name, runs, by_variant[base], name == base) for name, runs in by_variant.items() if runs]


def _summarize(
    name: str,
    runs: dict[tuple[int, int], AblationRun],
    base: dict[tuple[int, int], AblationRun],
    is_base: bool,
) -> VariantRow:
    shifted = [run.shifted_log_loss for run in runs.values() if run.shifted_log_loss is not None]
    pairs = [] if is_base else [(run, base[key]) for key, run in runs.items() if key in base]
    shifts = [
        own.shifted_log_loss - other.shifted_log_loss
        for own, other in pairs
        if own.shifted_log_loss is not None and other.shifted_log_loss is not None
    ]
    return VariantRow(
        name=name,
        num_runs=len(runs),
        log_loss=estimate_mean([run.log_loss for run in runs.values()]),
        shifted=estimate_mean(shifted) if shifted else None,
        top1=float(np.mean([run.top1 for run in runs.values()])),
        difference=estimate_mean([own.log_loss - other.log_loss for own, other in pairs]) if pairs else None,
        shifted_difference=estimate_mean(shifts) if shifts else None,
        time_ratio=float(np.mean([_time_ratio(own, other) for own, other in pairs])) if pairs else None,
    )


def _time_ratio(own: AblationRun, other: AblationRun) -> float:
    if own.cpu_seconds is not None and other.cpu_seconds is not None:
        return own.cpu_seconds / other.cpu_seconds
    return own.seconds / other.seconds


def judge(difference: Estimate | None) -> str:
    """In words: only an interval that leaves 0 out counts."""
    if difference is None or np.isnan(difference.half_width):
        return ""
    if abs(difference.mean) <= difference.half_width:
        return "no difference shown"
    return "lower" if difference.mean < 0.0 else "higher"


def ablation_rows(rows: Sequence[VariantRow]) -> list[list[str]]:
    """A table for screen and file: mean ± standard error."""
    table = [["variant", "runs", "log loss", "difference", "", "shifted", "difference", "", "top-1", "time"]]
    for row in rows:
        table.append(
            [
                row.name,
                str(row.num_runs),
                row.log_loss.text(),
                row.difference.text("+") if row.difference else "base",
                judge(row.difference),
                row.shifted.text() if row.shifted else "-",
                row.shifted_difference.text("+") if row.shifted_difference else "-",
                judge(row.shifted_difference),
                f"{row.top1:.1%}",
                "1.00" if row.time_ratio is None else f"{row.time_ratio:.2f}",
            ]
        )
    return table


def save_ablation(plan: AblationPlan, results: Sequence[AblationRun], out: Path) -> list[list[str]]:
    """Writes runs.csv, table.md and plot.png; returns the table."""
    rows = summarize_ablation(plan, results)
    table = ablation_rows(rows)
    fields = ("variant", "seed", "fold", "log_loss", "shifted_log_loss", "top1", "seconds", "cpu_seconds")
    text = csv_text(fields, ([getattr(result, name) for name in fields] for result in results))
    lines = [
        f"# {plan.title}",
        "",
        "Mean ± standard error over runs; differences are paired by seed and fold, below 0 is better; words: 95 % interval.",
        "",
        *(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
            for cells in [table[0], ["---"] * len(table[0]), *table[1:]]
        ),
        "",
    ]

    def fill(folder: Path) -> None:
        (folder / "runs.csv").write_text(text, encoding="utf-8", newline="")
        (folder / "table.md").write_text("\n".join(lines), encoding="utf-8")
        draw_ablation(plan, rows, results).savefig(folder / "plot.png", format="png", dpi=110)

    publish_folder(out, "ablation", fill, advice="move it away or rename it, and call again: the runs are kept")
    return table


def draw_ablation(plan: AblationPlan, rows: Sequence[VariantRow], results: Sequence[AblationRun]) -> Figure:
    """Each run as a dot, each mean with its standard error, and a line through the base's mean."""
    shifted = any(row.shifted for row in rows)
    figure = Figure(figsize=(11 if shifted else 6.5, 1.4 + 0.36 * len(rows)), layout="constrained")
    figure.suptitle(plan.title, parse_math=False)  # a dollar in a name is a dollar
    panels = [("log loss", "log_loss"), ("shifted log loss", "shifted_log_loss")][: 2 if shifted else 1]
    axes = np.atleast_1d(np.asarray(figure.subplots(1, len(panels), sharey=True)))
    places: NDArray[np.int64] = np.arange(len(rows))
    for axis, (label, field) in zip(axes, panels, strict=True):
        for place, row in zip(places, rows, strict=True):
            values = [getattr(r, field) for r in results if r.variant == row.name and getattr(r, field) is not None]
            axis.plot(values, [place] * len(values), ".", color="0.6", zorder=1)
            estimate = row.log_loss if field == "log_loss" else row.shifted
            if estimate is None:
                continue
            error = 0.0 if np.isnan(estimate.standard_error) else estimate.standard_error
            axis.errorbar(estimate.mean, place, xerr=error, fmt="o", color="C0", capsize=3, zorder=2)
            if place == 0:
                axis.axvline(estimate.mean, color="C3", linewidth=1, linestyle=":", zorder=0)
        axis.set_xlabel(label)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(places, [row.name for row in rows], parse_math=False)
    axes[0].invert_yaxis()
    return figure
