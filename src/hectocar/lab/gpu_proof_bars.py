"""The bars of a GPU, and what the figures of a proof say of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hectocar.lab.gpu_proof_figures import COMPILED, Figure

Outcome = Literal["met", "missed", "not measured"]


@dataclass(frozen=True)
class Bar:
    """What a figure must reach."""

    title: str
    stage: str
    name: str
    """The figure's name, or what stands behind its last comma: with several, the worst counts."""
    limit: float
    at_most: bool = True
    """Else: at least."""


@dataclass(frozen=True)
class Verdict:
    """A bar, the figure that it was held against, and how that ended."""

    title: str
    bar: str
    verdict: Outcome
    value: float | None
    unit: str
    note: str
    """How the figure was come by, or why there is none."""


def list_bars(sizes_px: Sequence[int], cores: int) -> list[Bar]:
    """All bars: what is equal first, then what is fast.

    Args:
        sizes_px: Of the ladder, rising.
        cores: The most workers whose loading is compared with one's.
    """
    utilisation = [
        Bar(
            f"utilisation at {px} px, loader included",
            COMPILED,
            f"{px} px, loop utilisation",
            0.3 if place else 0.2,
            at_most=False,
        )
        for place, px in enumerate(sizes_px)
    ]
    return [
        Bar("CPU against GPU: loss of 20 steps in float32", "parity", "largest relative difference", 1e-3),
        Bar("resumed training equals a whole one, bfloat16", "resume", "bfloat16, difference by resuming", 0.0),
        Bar("resumed training equals a whole one, float16", "resume", "float16, difference by resuming", 0.0),
        Bar("bfloat16 against float32: loss", "precision", "bfloat16, loss", 5e-2),
        Bar("bfloat16 against float32: gradient", "precision", "bfloat16, gradient", 2e-1),
        Bar("float16 against float32: loss", "precision", "float16, loss", 1e-2),
        Bar("float16 against float32: gradient", "precision", "float16, gradient", 4e-2),
        Bar("compiled against eager: loss", "precision", "compiled, loss", 1e-4),
        Bar("compiled against eager: gradient", "precision", "compiled, gradient", 1e-3),
        *utilisation,
        Bar("the GPU waits for data", COMPILED, "waiting for data", 0.03),
        Bar("graphs of each size", COMPILED, "graphs", 1.0),
        Bar(f"{cores} loading workers: share of {cores} x one", "loader", "scaling", 0.8, at_most=False),
        Bar("30 epochs of a fold, training", "ladder", "training of a fold", 35.0),
        Bar("8,258 photographs in one view at the largest size", "views", "one view of 8258 photographs", 30.0),
        Bar("memory over 10 epochs", "memory", "growth to epoch 10", 0.02),
    ]


def judge(bars: Sequence[Bar], figures: Sequence[Figure]) -> list[Verdict]:
    """A verdict per bar, in their order."""
    return [_judge_one(bar, figures) for bar in bars]


def _judge_one(bar: Bar, figures: Sequence[Figure]) -> Verdict:
    text = f"{'at most' if bar.at_most else 'at least'} {bar.limit:g}"
    own = [figure for figure in figures if figure.stage == bar.stage]
    found = [figure for figure in own if figure.name == bar.name or figure.name.endswith(f", {bar.name}")]
    measured = [figure for figure in found if figure.value is not None]
    if not measured:
        reasons = [f"{figure.name}: {figure.note}" for figure in own if figure.value is None and figure.note]
        return Verdict(bar.title, text, "not measured", None, "", "; ".join(reasons)[:400] or "its stage gave no such figure")
    worst = (max if bar.at_most else min)(measured, key=lambda figure: figure.value or 0.0)
    value = worst.value or 0.0
    met = value <= bar.limit if bar.at_most else value >= bar.limit
    outcome: Outcome = "met" if met else "missed"
    return Verdict(bar.title, text, outcome, value, worst.unit, f"{worst.name}; {worst.note}".rstrip("; "))


def verdict_rows(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """A header, and a row per bar."""
    rows = [["bar", "required", "verdict", "figure", "unit", "note"]]
    for verdict in verdicts:
        value = "-" if verdict.value is None else f"{verdict.value:.4g}"
        rows.append([verdict.title, verdict.bar, verdict.verdict, value, verdict.unit, verdict.note])
    return rows


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """The same in Markdown."""
    header, *rows = (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in verdict_rows(verdicts))
    return "\n".join([header, f"|{'---|' * 6}", *rows]) + "\n"
