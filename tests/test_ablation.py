"""Laws of ablations: a plan says what it means or is refused, a run is made once, and differences are paired."""

import dataclasses
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hectocar.cli import main
from hectocar.config.reader import read_config
from hectocar.config.schema import Config
from hectocar.disk.locks import hold_lock
from hectocar.errors import ConfigError
from hectocar.lab.ablation import AblationPlan, AblationRun, list_plans, read_plan, run_ablation
from hectocar.lab.ablation_report import ablation_rows, estimate_mean, judge, save_ablation, summarize_ablation
from hectocar.network.carnet import CarNet
from hectocar.progress import NoProgress
from hectocar.training.memory import choose_chunks
from tiny import CPU, write_photos

PLAN = """
title: Tiny
base:
  data: {num_folds: 4, num_workers: 1}
  network: {backbone: test_efficientnet, weights: none, num_subcenters: 1}
  training:
    epochs: 2
    sizes: [{epochs: 1, size_px: 32, batch_size: 8, learning_rate: 1.0e-3}]
    precision: float32
    validate_last_epochs: 1
seeds: [1, 2]
variants:
  base: {}
  k=2: {network: {num_subcenters: 2}}
"""


def write_plan(folder: Path, text: str = PLAN) -> str:
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


class Notes(NoProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize("name", list_plans())
def test_shipped_plans_are_valid_and_come_in_pairs(name: str) -> None:
    """Each plan reads, has three seeds, and its small and full forms compare the same kinds of variants."""
    plan = read_plan(name)
    assert len(plan.seeds) >= 3
    other = read_plan(name.removesuffix("-small") if name.endswith("-small") else f"{name}-small")
    assert len(other.variants) == len(plan.variants)
    small = [p for p in (plan, other) if "small" in p.title]
    assert len(small) == 1
    for config in small[0].variants.values():
        assert 0 < config.data.class_limit <= 50
        assert max(phase.size_px for phase in config.training.sizes) <= 128


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Tiny", "titel: Tiny", "unknown key 'titel'; allowed: title"),
        ("{num_subcenters: 2}", "{num_subcentres: 2}", "num_subcenters"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "seeds is [1, 1]; allowed: a list of different whole numbers"),
        ("seeds: [1, 2]", "seeds: 3", "seeds is 3"),
        ("seeds: [1, 2]", "folds: [4]", "allowed: 0 to 3"),
        ("  k=2: {network", "  ../k: {network", "cannot be a folder's name"),
        ("  base: {}\n", "", "two or more names"),
        ("title: Tiny", "preset: labtop", "preset is 'labtop'; allowed: best"),
    ],
)
def test_mistakes_in_a_plan_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    """One message that says what is allowed."""
    assert old in PLAN
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_plan(write_plan(tmp_path, PLAN.replace(old, new)))


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    """The message names the plans of the package."""
    with pytest.raises(ConfigError, match=re.escape("one of beyond, beyond-small, recipe, recipe-small")):
        read_plan(str(tmp_path / "none.yaml"))


def test_runs_are_made_once_and_again_only_if_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two variants by two seeds make four results; a second call trains nothing; a lost result is made again, the same."""
    write_photos(tmp_path / "data")
    plan, out = read_plan(write_plan(tmp_path)), tmp_path / "out"

    def run(notes: Notes, jobs: int = 1) -> list[AblationRun]:
        return run_ablation(plan, tmp_path / "data", out, device=CPU, num_jobs=jobs, progress=notes)

    first = run(Notes())
    assert [(r.variant, r.seed) for r in first] == [("base", 1), ("k=2", 1), ("base", 2), ("k=2", 2)]
    assert not list(out.rglob("last.safetensors"))
    notes = Notes()
    assert run(notes) == first
    assert notes.lines == []
    (out / "k=2" / "seed2" / "fold0" / "result.json").unlink()
    again = run(notes, jobs=2)
    assert [r.log_loss for r in again] == pytest.approx([r.log_loss for r in first], rel=1e-2)  # threads may differ
    assert sum(line.startswith("k=2, seed 2") for line in notes.lines) == 1
    command = ["ablate", str(tmp_path / "plan.yaml"), str(tmp_path / "data"), "--out", str(out), "--device", "cpu"]
    assert main(command) == 0
    assert "plot.png" in capsys.readouterr().out
    assert main([*command, "--jobs", "0"]) == 2
    assert "--jobs is 0" in capsys.readouterr().err
    changed = dataclasses.replace(plan, variants={**plan.variants, "k=2": read_config(None, None, ["training.epochs=3"])})
    with pytest.raises(ConfigError, match=re.escape("another configuration than the plan's variant 'k=2'")):
        run_ablation(changed, tmp_path / "data", out, device=CPU, num_jobs=1, progress=NoProgress())
    table = save_ablation(plan, first, out)
    assert len(table) == 3
    assert (out / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "k=2" in (out / "table.md").read_text("utf-8")
    assert len((out / "runs.csv").read_text("utf-8").splitlines()) == 5


def test_jobs_plan_with_their_share_of_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is read once, for as many jobs as there are; each run plans with that and stores its plan."""
    write_photos(tmp_path / "data")
    plan = read_plan(write_plan(tmp_path, PLAN.replace("seeds: [1, 2]", "seeds: [1]")))
    asked: list[int] = []
    monkeypatch.setattr("hectocar.lab.ablation.read_free_bytes", lambda _, num_jobs: asked.append(num_jobs) or 1)
    planned: list[int] = []

    def choose(config: Config, network: CarNet, free_bytes: int) -> dict[str, int]:
        planned.append(free_bytes)
        return choose_chunks(config, network, free_bytes)

    monkeypatch.setattr("hectocar.training.loop.choose_chunks", choose)
    # In this process, one after the other: a spawned one would not know the replacements above.
    monkeypatch.setattr("hectocar.lab.ablation.ProcessPoolExecutor", lambda _, **settings: ThreadPoolExecutor(1))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run_ablation(plan, tmp_path / "data", tmp_path / "out", device=CPU, num_jobs=3, progress=NoProgress())
    assert asked == [3]
    assert planned == [1, 1]


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file or directory"), ImportError("no sem_open here")])
def test_without_shared_memory_the_runs_follow_one_another(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no /dev/shm, --jobs 2 is said not to work and the runs are made all the same."""
    write_photos(tmp_path / "data")
    plan = read_plan(write_plan(tmp_path, PLAN.replace("seeds: [1, 2]", "seeds: [1]").replace("epochs: 2", "epochs: 1")))

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    notes = Notes()
    results = run_ablation(plan, tmp_path / "data", tmp_path / "out", device=CPU, num_jobs=2, progress=notes)
    assert len(results) == 2
    assert any("no shared memory here" in line for line in notes.lines)


def result(variant: str, seed: int, loss: float, cpu: float | None = 10.0) -> AblationRun:
    return AblationRun(variant, seed, 0, loss, 0.5, 20.0, cpu, loss + 1.0)


def test_differences_are_paired_by_seed() -> None:
    """A constant gain is sure however much the seeds differ; a gain within the noise is not called one."""
    plan = AblationPlan("t", (1, 2, 3), (0,), {name: read_config() for name in ("base", "better", "noisy")})
    base = {1: 1.0, 2: 2.0, 3: 3.0}
    results = [result("base", seed, loss) for seed, loss in base.items()]
    results += [result("better", seed, loss - 0.1 - 0.001 * seed, cpu=5.0) for seed, loss in base.items()]
    results += [result("noisy", seed, loss + (-1.0) ** seed) for seed, loss in base.items()]
    rows = summarize_ablation(plan, results)
    assert [row.name for row in rows] == ["base", "better", "noisy"]
    assert rows[0].difference is None
    assert rows[1].difference is not None
    assert rows[1].difference.mean == pytest.approx(-0.102)
    assert rows[1].difference.standard_error == pytest.approx(0.001 / 3**0.5)
    assert [judge(row.difference) for row in rows] == ["", "lower", "no difference shown"]
    assert rows[1].time_ratio == 0.5
    assert ablation_rows(rows)[2][3] == "-0.1020 ± 0.0006"


def test_intervals_are_students() -> None:
    """Three values 1, 2, 3: standard error 1/sqrt(3), half width 4.3027 of it; one value has none."""
    estimate = estimate_mean([1.0, 2.0, 3.0])
    assert estimate.half_width == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
    assert np.isnan(estimate_mean([1.0]).half_width)
    assert judge(estimate_mean([1.0])) == ""


def list_descendants(pid: int) -> set[int]:
    """Processes below one, by /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    found, new = set(), {pid}
    while new:
        found |= new
        new = {child for child, parent in parents.items() if parent in new} - found
    return found - {pid}


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are counted in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_trainings_end_with_the_one_that_started_them(number: int, tmp_path: Path) -> None:
    """A signal to the parent alone: no worker goes on, none holds the terminal, and the same command can be called again."""
    write_photos(tmp_path / "data")
    plan = write_plan(tmp_path, PLAN.replace("epochs: 2", "epochs: 3000"))
    words = ["ablate", plan, str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--jobs", "2", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "hectocar", *words], stderr=subprocess.PIPE, start_new_session=True)
    try:
        assert wait_until(lambda: len(list(tmp_path.rglob("last.safetensors"))) == 2, 240)
        workers = list_descendants(process.pid)
        assert len(workers) >= 2
        process.send_signal(number)
        assert process.wait(60) == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[signal.Signals(number)]
        assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 30)
    finally:
        process.kill()
        process.communicate()
    with hold_lock(tmp_path / "out"):
        pass
