"""The table, the plot and bench.json of a benchmark."""

from collections.abc import Sequence
from pathlib import Path

from hectocar.codec import read_sealed, write_sealed
from hectocar.disk.outputs import publish_folder
from hectocar.lab.bench.cases import CASES
from hectocar.lab.bench.figures import (
    Bench,
    Comparison,
    Contestant,
    compare_rounds,
    find_peak_tflops,
    median_rate,
    training_tflops,
)
from hectocar.lab.bench.plot import draw_plot

FILE, PLOT = "bench.json", "bench.svg"
HEADER = ("what", "who", "workers", "images/s", "slowest", "fastest", "hectocar is", "95 %", "first round s", "note")


def save_bench(bench: Bench, folder: Path) -> None:
    """Writes bench.json and bench.svg; a benchmark that stood there is replaced."""

    def fill(place: Path) -> None:
        write_sealed(place / FILE, bench)
        (place / PLOT).write_text(draw_plot(bench), "utf-8")

    publish_folder(folder, "bench", fill, last=FILE, advice="give another folder")


def read_bench(folder: Path) -> Bench:
    """What ``save_bench`` wrote.

    Raises:
        ArtifactError: Missing or damaged.
    """
    return read_sealed(Bench, folder / FILE, "run hectocar bench again")


def bench_rows(bench: Bench) -> list[Sequence[str]]:
    """A table for the screen: everybody's median rate, and how many times as fast we are."""
    rows: list[Sequence[str]] = [HEADER]
    for comparison in bench.comparisons:
        rows += [_row(bench, comparison, contestant) for contestant in comparison.contestants]
    return rows


def _row(bench: Bench, comparison: Comparison, contestant: Contestant) -> Sequence[str]:
    title = comparison.title if contestant is comparison.ours else ""
    if contestant.problem:
        return [title, contestant.name, str(contestant.num_workers), *[""] * 6, contestant.problem]
    images, seconds = comparison.num_images, contestant.seconds
    rates = [median_rate(images, seconds), images / max(seconds), images / min(seconds)]
    cells = [title, contestant.name, str(contestant.num_workers), *(f"{rate:.1f}" for rate in rates)]
    if contestant is comparison.ours:
        return [*cells, "", "", f"{contestant.first_seconds:.1f}", ""]
    ratio = compare_rounds(seconds, comparison.ours.seconds, bench.seed)
    return [*cells, f"{ratio.median:.2f}x", f"{ratio.low:.2f}-{ratio.high:.2f}", f"{contestant.first_seconds:.1f}", ""]


def bench_notes(bench: Bench) -> list[str]:
    """What the table does not say: on what it was measured, the share of the device's peak, how equal the answers are."""
    lines = [", ".join(f"{key} {value}" for key, value in bench.machine.items())]
    lines.append(", ".join(f"{key} {value}" for key, value in bench.packages.items()))
    lines.append(
        f"photographs: {bench.photographs}; batches of {bench.batch_size}; {bench.num_workers} threads or worker processes for "
        "everybody; 'first round' (start, caches, compilation) is no part of the figures"
    )
    titles = {comparison.case: CASES[comparison.case].title for comparison in bench.comparisons}
    lines += [f"{name}: {title}" for name, title in titles.items()]
    for comparison in bench.comparisons:
        if comparison.case == "step":
            lines.append(f"{comparison.title}: {describe_utilisation(bench, comparison)}")
        if comparison.largest_difference is not None:
            difference = f"{comparison.largest_difference:.1e}"
            lines.append(f"{comparison.title}: probabilities of both differ by at most {difference} ({comparison.precision})")
    return lines


def describe_utilisation(bench: Bench, comparison: Comparison) -> str:
    """Arithmetic of our step per second, and its share of the peak where one is known."""
    done = training_tflops(comparison.macs, median_rate(comparison.num_images, comparison.ours.seconds))
    text = (
        f"{comparison.precision}, {comparison.macs / 1e9:.3f} GMAC a photograph, 6 x MACs x images/s = {done:.3f} TFLOP/s, "
        "loader and augmentation not included"
    )
    peak = find_peak_tflops(bench.machine.get("gpu", ""), comparison.precision)
    if peak is None:
        return f"{text}; utilisation unknown: no dense peak is known for this device and precision"
    return f"{text}; model-FLOP utilisation {done / peak:.1%} of {peak:g} TFLOP/s dense"
