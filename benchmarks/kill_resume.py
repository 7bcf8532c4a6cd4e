"""Kills each long command at random moments and calls it again: the outcome must be that of a run that nobody disturbed.

    python benchmarks/kill_resume.py [--kills 20] [--only train predict] [--seed 0] [--keep FOLDER]

Every command is started as its own process group on a tiny showroom and gets SIGKILL at a moment that is drawn uniformly
over its undisturbed duration; every third time its second call is killed, too. The last call must end with exit code 0,
in the same bytes (weights, tables, answers; clocks apart), with no half written file and no lock left, and nothing deleted
by hand. ``train`` is called again with --resume and without by turns: where it says so, --resume is added.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open

from hectocar.showroom import ShowroomSpec, write_showroom

TINY = [
    "--set", "network.backbone=test_resnet", "--set", "network.drop_path_max=0.0", "--set", "data.num_folds=2",
    "--set", "training.epochs=2", "--set", "training.checkpoint_minutes=0",
    "--set", "training.sizes=[{epochs: 1, size_px: 64, batch_size: 16, learning_rate: 1.0e-3}]",
]  # fmt: skip
NUM_PREDICTED = 700
"""More than two parts of a prediction."""
CLOCKS = ("made", "time", "seconds", "cpu_seconds")
SEAL = "sha256"
"""Over the clocks too; all that it covers is compared."""


@dataclass(frozen=True)
class Case:
    """A command, what it starts from, and what it must end in."""

    words: list[str]
    prepare: Callable[[Path], None]
    read: Callable[[Path], dict[str, str]]


@dataclass
class Tally:
    """What became of the kills of one command."""

    seconds: float
    kills: int = 0
    too_late: int = 0
    resumed: int = 0
    """Calls that asked for --resume and got it."""
    faults: list[str] = field(default_factory=list)


def hash_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def without_clocks(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: without_clocks(value) for key, value in tree.items() if key not in CLOCKS}
    return [without_clocks(value) for value in tree] if isinstance(tree, list) else tree


def read_file(path: Path) -> str:
    """A digest of what a file says, without the times in it."""
    if path.suffix == ".json":
        tree = json.loads(path.read_text("utf-8"))
        tree.pop(SEAL, None)
        return hash_bytes(json.dumps(without_clocks(tree), sort_keys=True).encode())
    if path.suffix == ".safetensors":
        with safe_open(path, framework="np") as file:
            state = {key: without_clocks(json.loads(value)) for key, value in (file.metadata() or {}).items()}
            for tree in state.values():
                tree.pop(SEAL, None)
            tensors = {name: hash_bytes(file.get_tensor(name).tobytes()) for name in sorted(file.keys())}
        return hash_bytes(json.dumps([state, tensors], sort_keys=True).encode())
    if path.name == "runs.csv":
        rows = list(csv.DictReader(path.open(encoding="utf-8-sig", newline="")))
        return hash_bytes(json.dumps(without_clocks(rows)).encode())
    return hash_bytes(path.read_bytes())


def read_files(folder: Path, *patterns: str) -> dict[str, str]:
    files = sorted({file for pattern in patterns for file in folder.rglob(pattern) if file.is_file()})
    return {file.relative_to(folder).as_posix(): read_file(file) for file in files}


def start(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HECTOCAR_CACHE": "off", "OMP_NUM_THREADS": "1"}
    log = (folder / "log").open("wb")
    command = [sys.executable, "-m", "hectocar", *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def call(words: list[str], folder: Path) -> int:
    return start(words, folder).wait()


def kill_at(words: list[str], folder: Path, seconds: float) -> bool:
    """Whether the kill came before the end."""
    process = start(words, folder)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def find_litter(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.name.endswith((".part", ".lock", ".parts"))]


def make_cases(base: Path) -> dict[str, Case]:
    """Each command, in an order in which the later ones use what the earlier ones left in ``base``."""
    data, run = base / "data", base / "run"
    with (data / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    many = [f"{n},{Path('data') / rows[n % len(rows)]['img_path']}" for n in range(NUM_PREDICTED)]
    (base / "many.csv").write_text("ID,img_path\n" + "\n".join(many) + "\n")
    plan = {
        "title": "kills", "preset": "demo", "seeds": [1, 2], "variants": {"base": {}, "plain": {"network": {"neck": "none"}}}
    }  # fmt: skip
    (base / "plan.yaml").write_text(json.dumps(plan))

    def nothing(_: Path) -> None:
        return

    def copy_run(folder: Path) -> None:
        shutil.copytree(run, folder / "run")

    train = ["train", str(data), "--preset", "demo", *TINY, "--fold", "all", "--out", "run"]
    return {
        "train": Case(train, nothing, lambda folder: read_files(folder / "run", "*.safetensors", "*.parquet", "c*.json")),
        "audit": Case(
            ["audit", str(data), "--out", "audit"], nothing, lambda folder: read_files(folder, "*.csv", "*.parquet", "*.json")
        ),
        "predict": Case(
            ["predict", str(run), str(base / "many.csv"), "--out", "s.csv"], nothing, lambda folder: read_files(folder, "s.csv")
        ),
        "finish": Case(
            ["finish", "run", "--views", "plain,mirror", "--out", "bundle"],
            copy_run,
            lambda folder: read_files(folder / "bundle", "*.safetensors", "*.json"),
        ),
        "ablate": Case(
            ["ablate", str(base / "plan.yaml"), str(data), *TINY, "--jobs", "2", "--out", "out"],
            nothing,
            lambda folder: read_files(folder / "out", "*.safetensors", "result.json", "runs.csv"),
        ),
    }


def disturb(name: str, case: Case, folder: Path, tally: Tally, wanted: dict[str, str], number: int, rng: random.Random) -> None:
    """One kill, or two, and the calls that follow."""
    case.prepare(folder)
    resume = ["--resume"] if name == "train" and number % 2 else []
    tally.kills += 1
    moments = [rng.uniform(0.0, tally.seconds) for _ in range(2 if number % 3 == 2 else 1)]
    for place, moment in enumerate(moments):
        tally.too_late += not kill_at(case.words + (resume if place else []), folder, moment)
    code = call(case.words + resume, folder)
    said = (folder / "log").read_text("utf-8", "replace")
    if code == 2 and name == "train" and "--resume" in said:
        tally.resumed += 1
        code = call([*case.words, "--resume"], folder)
        said = (folder / "log").read_text("utf-8", "replace")
    where = f"kill {number} at {', '.join(f'{moment:.1f} s' for moment in moments)}"
    if code:
        tally.faults.append(f"{where}: exit code {code}: {said.strip()[-300:]}")
        return
    found = case.read(folder)
    if found != wanted:
        different = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        tally.faults.append(f"{where}: differs: {', '.join(different)}")
    litter = find_litter(folder)
    if litter:
        tally.faults.append(f"{where}: left over: {', '.join(litter)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", nargs="+", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="work here and leave everything (default: a temporary folder)")
    args = parser.parse_args()
    base = args.keep or Path(tempfile.mkdtemp(prefix="kill_resume_"))
    base.mkdir(parents=True, exist_ok=True)
    base = base.resolve()
    write_showroom(base / "data", ShowroomSpec(num_classes=4, train_per_class=16, test_per_class=3, num_faults=1))
    faults = 0
    print("command    undisturbed     kills  too late  --resume    faults")
    for name, case in make_cases(base).items():
        whole = base / f"{name}_whole"
        whole.mkdir()
        wanted: dict[str, str] = {}
        if args.only is None or name in args.only or name == "train":  # whose run the others use
            case.prepare(whole)
            began = time.monotonic()
            if call(case.words, whole):
                print((whole / "log").read_text("utf-8", "replace"))
                return 1
            tally = Tally(time.monotonic() - began)
            wanted = case.read(whole)
        if name == "train":
            shutil.copytree(whole / "run", base / "run")
        if args.only is not None and name not in args.only:
            continue
        rng = random.Random(f"{args.seed} {name}")
        for number in range(args.kills):
            folder = base / f"{name}_{number}"
            folder.mkdir()
            disturb(name, case, folder, tally, wanted, number, rng)
            shutil.rmtree(folder, ignore_errors=args.keep is None)
        counts = (tally.kills, tally.too_late, tally.resumed, len(tally.faults))
        print(f"{name:<9} {tally.seconds:>9.1f} s  {'  '.join(f'{count:>8}' for count in counts)}", flush=True)
        for fault in tally.faults:
            print(f"  {fault}")
        faults += len(tally.faults)
    if args.keep is None:
        shutil.rmtree(base, ignore_errors=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
