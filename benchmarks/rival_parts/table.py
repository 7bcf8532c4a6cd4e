"""The table of ours and the rivals: every figure, and the paired difference to ours with its standard error."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hectocar.scoring.metrics import cross_entropy_per_row, paired_bootstrap, top_k_accuracy
from hectocar.scoring.reliability import compute_reliability
from hectocar.tables import csv_text
from rival_parts.answers import Tables

OURS = "hectocar"
LEVELS = ("raw", "temperature", "finish")


@dataclass(frozen=True)
class Entry:
    """One program in one state of finishing."""

    program: str
    level: str
    tables: Tables
    setting: str = ""
    cost: dict[str, float] = field(default_factory=dict)
    """minutes, cpu_minutes, peak_gib of its training, where they are known."""


def build_rows(entries: Sequence[Entry], label_N: NDArray[np.int64]) -> list[list[str]]:
    """A header and a row per comparison: each level against ours of the same level, and a temperature alone against our
    finish as well."""
    ours = {entry.level: entry for entry in entries if entry.program == OURS}
    conditions = list(ours["raw"].tables)
    header = ["against ours", "program", "setting", "level"]
    header += [f"{name} {what}" for name in conditions for what in ("log loss", "difference", "ratio", "ECE", "top-1")]
    rows = [[*header, "minutes", "CPU-minutes", "peak GiB"]]
    for base in (ours[level] for level in LEVELS if level in ours):
        for entry in entries:
            if entry.level == base.level or (base.level == "finish" and entry.level == "temperature" and entry.program != OURS):
                rows.append(_row(entry, base, label_N, conditions))
    return rows


def _row(entry: Entry, base: Entry, label_N: NDArray[np.int64], conditions: Sequence[str]) -> list[str]:
    cells = [base.level, entry.program, entry.setting, entry.level]
    for name in conditions:
        log_probs = entry.tables[name]
        loss_N, base_N = (cross_entropy_per_row(table, label_N) for table in (log_probs, base.tables[name]))
        change = "-"
        if entry is not base:
            paired = paired_bootstrap(base_N, loss_N)
            change = f"{paired.mean:+.4f} ± {paired.standard_error:.4f}"
        ece = compute_reliability(np.exp(log_probs), label_N).ece
        top1 = top_k_accuracy(log_probs, label_N, 1)
        cells += [f"{loss_N.mean():.4f}", change, f"{base_N.mean() / loss_N.mean():.3f}", f"{ece:.2%}", f"{top1:.1%}"]
    return cells + [f"{entry.cost[name]:.1f}" if name in entry.cost else "-" for name in ("minutes", "cpu_minutes", "peak_gib")]


def write_table(folder: Path, rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """table.csv and table.md; returns the latter."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    text = "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"
    (folder / "table.csv").write_text(csv_text(rows[0], rows[1:]), encoding="utf-8", newline="")
    (folder / "table.md").write_text(text, encoding="utf-8")
    return text


def write_losses(folder: Path, entries: Sequence[Entry], image_id: Sequence[str], label_N: NDArray[np.int64]) -> None:
    """losses.csv: the raw samples, a row per held-out photograph and condition."""
    names = [f"{entry.program} {entry.level}" for entry in entries]
    lines: list[list[str]] = []
    for condition in entries[0].tables:
        losses = [cross_entropy_per_row(entry.tables[condition], label_N) for entry in entries]
        lines += [
            [image, condition, *(f"{loss:.6f}" for loss in row)]
            for image, row in zip(image_id, np.transpose(losses).tolist(), strict=True)
        ]
    (folder / "losses.csv").write_text(csv_text(["image_id", "condition", *names], lines), encoding="utf-8", newline="")
