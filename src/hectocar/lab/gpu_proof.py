"""Ten minutes on a GPU: what is right first, then what is fast, the most valuable stages first.

Each stage is guarded: one that fails is recorded, and the next begins; one that no longer fits into the time is recorded as
skipped. The folder gets figures.jsonl (a fingerprint, then a line per figure as it is measured), table.md and verdicts.json.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from hectocar.disk.artifacts import describe_environment, write_json
from hectocar.lab.gpu_proof_bars import Verdict, judge, list_bars, verdict_table
from hectocar.lab.gpu_proof_bench import Bench
from hectocar.lab.gpu_proof_figures import COMPILED, EAGER, TABLE_FILE, VERDICTS_FILE, Figure, Recorder, figure_table
from hectocar.lab.gpu_proof_right import prove_parity, prove_precisions, prove_resume
from hectocar.lab.gpu_proof_speed import (
    NUM_WORKERS,
    prove_compiled,
    prove_depthwise,
    prove_loader,
    prove_lock,
    prove_steps,
)
from hectocar.lab.gpu_proof_whole import prove_ladder, prove_memory, prove_views
from hectocar.photos.pool import count_workers
from hectocar.training.memory import describe_device


@dataclass(frozen=True)
class Proof:
    """What was measured, and what it says."""

    folder: Path
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Stage:
    """One question."""

    name: str
    needs_seconds: float
    """With less left it is not begun."""
    prove: Callable[[Recorder, Bench], None]


STAGES = (
    Stage("parity", 30, prove_parity),
    Stage("resume", 40, prove_resume),
    Stage("precision", 20, prove_precisions),
    Stage(EAGER, 20, prove_steps),
    Stage("loader", 20, prove_loader),
    Stage("views", 20, prove_views),
    Stage("lock", 15, prove_lock),
    Stage("memory", 20, prove_memory),
    Stage(COMPILED, 100, prove_compiled),
    Stage("ladder", 60, prove_ladder),
    Stage("depthwise", 10, prove_depthwise),
)
"""What takes minutes, compilation, comes after what takes seconds."""


def prove_gpu(
    out: Path,
    *,
    seconds: float,
    device: torch.device,
    tiny: bool,
    photos: Path | None = None,
    on_figure: Callable[[Figure], None] | None = None,
    stages: Sequence[Stage] = STAGES,
) -> Proof:
    """Runs the stages in the order of their value, until the time is up.

    Args:
        out: Folder for figures.jsonl, table.md and verdicts.json; files of an earlier proof are replaced.
        seconds: For all stages together. A stage that has begun is not cut.
        device: A GPU; a processor is for the dry run.
        tiny: A toy network at an eighth of the sizes, for the dry run.
        photos: A folder of photographs to decode; None renders some.
        on_figure: Gets each figure as it is measured.
        stages: What to run.
    """
    record = Recorder(out, seconds, describe_machine(device), on_figure)
    with tempfile.TemporaryDirectory() as folder:
        bench: Bench | None = None
        with record.guard("photographs"):
            bench = Bench(device, Path(folder), tiny=tiny, photos=photos)
        for stage in stages if bench else ():
            with record.guard(stage.name):
                if record.fits(stage.name, 0.0 if tiny else stage.needs_seconds):
                    stage.prove(record, bench)
        sizes = sorted(phase.size_px for phase in bench.phases) if bench else []
    verdicts = judge(list_bars(sizes or [256, 384, 512, 640, 768], NUM_WORKERS), record.figures)
    write_json(out / VERDICTS_FILE, [asdict(verdict) for verdict in verdicts])
    text = f"# Verdicts\n\n{verdict_table(verdicts)}\n# Figures\n\n{figure_table(record.figures)}"
    (out / TABLE_FILE).write_text(text, "utf-8")
    return Proof(out, tuple(record.figures), tuple(verdicts))


def describe_machine(device: torch.device) -> dict[str, str]:
    """What the figures depend on: machine, GPU, driver, versions."""
    found = describe_environment() | describe_device(device) | {"cores": str(count_workers(0))}
    driver = Path("/proc/driver/nvidia/version")
    if device.type == "cuda":
        found["driver"] = driver.read_text("utf-8").splitlines()[0] if driver.is_file() else "unknown"
        found["gpu_memory_gib"] = f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.1f}"
    return found
