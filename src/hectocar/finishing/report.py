"""What a finish is worth, as tables for the screen and as BUNDLE/report/: report.md, calibration.png, figures.json."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hectocar.calibration.evidence import Gain, LinkRow
from hectocar.calibration.fit_chain import Calibration, FinishReport
from hectocar.calibration.floor import FloorLink
from hectocar.calibration.screen_views import MENDABLE, NUM_ERRORS, find_hopeless
from hectocar.disk.artifacts import write_json
from hectocar.disk.writing import replace_file
from hectocar.scoring.equivalents import PolicyEffect, effect_rows
from hectocar.scoring.submission import EquivalentPolicy

Effects = dict[EquivalentPolicy, PolicyEffect]
_NOTE = """Nested: the link and everything before it fitted on the other folds. Change: nested, against the last link that
was kept, ± standard error; below 0 is better. In-sample: fitted and judged on the same photographs. Kept: the change over all
conditions, photograph by photograph, is below 0 by more than its standard error; the floor is judged by the same rule on the
mix of real and unusable photographs that it is fitted for."""
_SCREEN_NOTE = f"""A view is tried on no more than a part of the photographs where on every part its loss, at its own best
temperature, lies more than {MENDABLE:g} nats above that of the best view, by {NUM_ERRORS:g} standard errors."""


def chain_rows(report: FinishReport) -> list[list[str]]:
    """Every link with its nested and in-sample loss by condition."""
    return _link_rows("link", report.chain, report.conditions)


def blend_rows(report: FinishReport) -> list[list[str]]:
    """Ways to blend the same views, each followed by a temperature; changes against greedy selection."""
    return _link_rows("blend", report.blends, report.conditions)


def _link_rows(what: str, links: Sequence[LinkRow], conditions: Sequence[str]) -> list[list[str]]:
    rows = [[what, *(name for condition in conditions for name in (condition, "change", "in-sample")), "kept"]]
    for link in links:
        cells = [
            cell
            for condition in conditions
            for cell in (f"{link.nested[condition]:.4f}", _gain(link.gains.get(condition)), f"{link.in_sample[condition]:.4f}")
        ]
        rows.append([link.name, *cells, "yes" if link.kept else "no"])
    return rows


def view_rows(report: FinishReport) -> list[list[str]]:
    """Cost and gain of each view."""
    header = [
        "view",
        "cost",
        *(name for condition in report.conditions for name in (f"{condition} alone", "with plain")),
        "weight",
    ]
    rows = [header]
    for view in report.views:
        cells = [
            cell
            for condition in report.conditions
            for cell in (f"{view.alone[condition]:.4f}", _gain(view.with_plain[condition]))
        ]
        rows.append([view.name, f"{view.cost:.2f}", *cells, f"{view.weight:.3f}"])
    return rows


def screen_rows(report: FinishReport) -> list[list[str]]:
    """What each view lost on a part of the photographs; empty where none was screened."""
    hopeless = find_hopeless(report.screened)
    rows = [["view", "part", "photographs", "loss", "above the best", "tried on"]]
    for row in report.screened:
        tried = "the parts" if row.name in hopeless and row.name != report.views[0].name else "all"
        rows.append([row.name, row.part, str(row.num_photos), f"{row.loss:.4f}", _gain(row.above_best), tried])
    return rows if len(rows) > 1 else []


def level_rows(report: FinishReport) -> list[list[str]]:
    """What ``predict --views`` chooses among; the dearest kind of unusable photograph in losses of the prior."""
    rows = [["--views", "cost", "clean", "shifted", "unusable", "views"]]
    for level, insurance in zip(report.finish.levels, report.insurances, strict=True):
        figures = [f"{level.cost:.1f}", *level.expected.describe(), f"{insurance.worst:.2f}"]
        rows.append([str(len(level.views)), *figures, ", ".join(level.views)])
    return rows


def expected_rows(report: FinishReport) -> list[list[str]]:
    """What to expect with and without the photographs that an audit doubts; empty where there are none."""
    expected = report.finish.choose(None).expected
    if expected.clean_trusted is None:
        return []
    rows = [["photographs", "clean", "shifted"], ["all", *expected.describe()]]
    return [*rows, [f"without {expected.num_suspects} suspects of the audit", *expected.describe_trusted()]]


def calibration_rows(report: FinishReport) -> list[list[str]]:
    """ECE before and after, and what sampling alone causes."""
    rows = [["condition", "ECE before", "ECE after", "of chance"]]
    for condition, found in report.calibration.items():
        rows.append([condition, f"{found.before.ece:.2%}", f"{found.after.ece:.2%}", f"{found.chance_ece:.2%}"])
    return rows


def unusable_rows(report: FinishReport) -> list[list[str]]:
    """Cost of unusable photographs, in losses of the prior."""
    rows = [["unusable", "without floor", "with floor"]]
    for kind, cost in report.insurance.unseen_cost.items():
        rows.append([kind, f"{report.unusable_cost_before[kind]:.2f}", f"{cost:.2f}"])
    return rows


def total_lines(report: FinishReport) -> list[str]:
    """The whole chain against its start, a line per condition; and what the floor is kept or left out for."""
    kept = [row for row in report.chain if row.kept]
    first, last = kept[0], kept[-1]
    lines = []
    for condition in report.conditions:
        before, after, gain = first.nested[condition], last.nested[condition], report.total[condition]
        share = (after - before) / before
        lines.append(f"{condition}: {before:.4f} -> {after:.4f}, {share:+.1%} (difference {_gain(gain)}), nested")
    insurance = report.insurance
    lines.append(
        f"floor: fitted for {insurance.share:.1%} of unusable photographs; on such a mix it changes the loss by "
        f"{_gain(insurance.gain)}, and is {'kept' if report.finish.choose(None).find(FloorLink) else 'left out'}"
    )
    return lines


def report_tables(report: FinishReport, effects: Effects) -> dict[str, list[list[str]]]:
    """Every table, by its title."""
    expected, screened = expected_rows(report), screen_rows(report)
    return {
        "Links of the chain": chain_rows(report),
        "Ways to blend": blend_rows(report),
        **({"Views on a part of the photographs": screened} if screened else {}),
        "Views": view_rows(report),
        "Speed against loss": level_rows(report),
        **({"Expected loss, and suspects": expected} if expected else {}),
        "Calibration": calibration_rows(report),
        "Unusable photographs, in losses of the prior": unusable_rows(report),
        f"Equivalent classes ({report.conditions[-1]})": effect_rows(effects),
    }


def write_report(folder: Path, report: FinishReport, effects: Effects) -> None:
    """Writes report.md, calibration.png and figures.json."""
    folder.mkdir(parents=True)
    lines = ["# The finish", "", *total_lines(report), "", _NOTE, "", *([_SCREEN_NOTE, ""] if report.screened else [])]
    for title, table in report_tables(report, effects).items():
        lines += [f"## {title}", "", *_markdown(table), ""]
    lines += ["![Reliability, and log loss by brightness](calibration.png)", ""]
    replace_file(folder / "report.md", lambda path: path.write_text("\n".join(lines), encoding="utf-8"))
    figure = draw_calibration(report)
    replace_file(folder / "calibration.png", lambda path: figure.savefig(path, format="png", dpi=110))
    write_json(folder / "figures.json", _figures(report))


def _markdown(table: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in [table[0], ["---"] * len(table[0]), *table[1:]]]


def _figures(report: FinishReport) -> dict[str, Any]:
    def link(row: LinkRow) -> dict[str, Any]:
        gains = {condition: asdict(gain) for condition, gain in row.gains.items()}
        return {"name": row.name, "nested": row.nested, "in_sample": row.in_sample, "change": gains, "kept": row.kept}

    return {
        "chain": [link(row) for row in report.chain],
        "blends": [link(row) for row in report.blends],
        "ece": {
            condition: {"before": c.before.ece, "after": c.after.ece, "chance": c.chance_ece} for condition, c in _items(report)
        },
        "screened": [asdict(row) for row in report.screened],
        "unusable_cost": report.insurance.unseen_cost,
        "unusable_share": report.insurance.share,
        "insurance": asdict(report.insurance.gain),
        "kept": [row.name for row in report.chain if row.kept],
        "unusable_cost_without_floor": report.unusable_cost_before,
    }


def _items(report: FinishReport) -> list[tuple[str, Calibration]]:
    return list(report.calibration.items())


def draw_calibration(report: FinishReport) -> Figure:
    """Above, accuracy by confidence before and after; below, log loss by decile of brightness."""
    found_by_condition = _items(report)
    figure = Figure(figsize=(5.2 * len(found_by_condition), 8.0), layout="constrained")
    axes = np.asarray(figure.subplots(2, len(found_by_condition), squeeze=False))
    for column, (condition, found) in enumerate(found_by_condition):
        upper, lower = axes[0, column], axes[1, column]
        upper.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        curves = (("one network, plain", found.before, "C3"), ("finished", found.after, "C0"))
        for name, bins, colour in curves:
            upper.plot(bins.confidence_B, bins.accuracy_B, "o-", color=colour, label=f"{name}, ECE {bins.ece:.1%}")
        upper.set(xlabel="confidence", ylabel="share right", title=condition, xlim=(0, 1), ylim=(0, 1))
        upper.legend(loc="upper left")
        for name, deciles, colour in (
            ("one network, plain", found.deciles_before, "C3"),
            ("finished", found.deciles_after, "C0"),
        ):
            middles = [(row.low + row.high) / 2.0 for row in deciles]
            errors = [row.standard_error for row in deciles]
            lower.errorbar(middles, [row.mean for row in deciles], yerr=errors, fmt="o-", color=colour, capsize=3, label=name)
        lower.set(xlabel="brightness of the photograph (decile)", ylabel="log loss")
        lower.set_ylim(bottom=0.0)
        lower.legend(loc="best")
        for axis in (upper, lower):
            axis.grid(alpha=0.3)
    return figure


def _gain(gain: Gain | None) -> str:
    return "-" if gain is None else f"{gain.mean:+.4f} ± {gain.standard_error:.4f}"
