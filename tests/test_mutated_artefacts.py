"""A changed artefact is refused with one message that names it, or changes nothing: never a traceback, never another answer."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mutants import mutate
from project import Project, call, call_well


@dataclass(frozen=True)
class Reader:
    """A command that reads some artefacts: how it is called, and what it must answer."""

    name: str
    words: Callable[[Path], list[str]]
    """Gets a scratch folder for what it writes."""
    result: Callable[[Path, str], object]
    """Gets the scratch folder and what was printed."""
    restored: tuple[Path, ...] = ()
    """Folders that it may change."""
    parts: Path | None = None
    """Parts of a prediction to go on with."""


def list_readers(project: Project, cache: Path) -> dict[str, tuple[Reader, list[Path]]]:
    """Each reading command, and the files that it reads."""
    folder = project.folder
    run, fold, audit, seed = folder / "run", folder / "run" / "fold0", folder / "audit", folder / "ablation" / "base" / "seed1"
    names = ("config.json", "classes.json", "provenance.json", "manifest.parquet", "folds.parquet", "shift.json")
    start = [run / name for name in names]

    def read(name: str) -> Callable[[Path, str], object]:
        return lambda out, _: (out / name).read_bytes()

    def take_text(_: Path, text: str) -> object:
        return text

    def predict(model: str, parts: Path | None = None) -> Reader:
        return Reader(f"predict {model}", lambda out: project.predict(model, out / "a.csv"), read("a.csv"), parts=parts)

    shift = ["--set", f"data.shift={folder / 'own_shift.json'}"]
    parts = folder / "answer.csv.parts"
    bundle = [folder / "bundle" / name for name in ("bundle.json", "model0_fold1.safetensors", "bank0_fold0.safetensors")]
    resume = Reader("train --resume", lambda _: [*project.train(), *shift, "--resume"], take_text, (run,))
    folds = Reader("folds", lambda out: project.folds(out / "folds.csv"), read("folds.csv"), (cache,))
    ablate = Reader("ablate", lambda _: project.ablate(), take_text, (folder / "ablation",))
    finish = Reader("finish", lambda out: project.finish(out / "b"), read("b/bundle.json"), (run / "oof",))
    return {
        "predict run": (predict("run"), [*start, fold / "best.safetensors"]),
        "predict bundle": (predict("bundle"), bundle),
        "go on predicting": (predict("bundle", parts), [parts / "parts.json", parts / "000000.npz"]),
        "train --resume": (resume, [*start, fold / "last.safetensors", fold / "events.jsonl", folder / "own_shift.json"]),
        "folds": (folds, [audit / "audit.json", *audit.glob("shift.json"), *cache.glob("*.parquet")]),
        "ablate": (ablate, [seed / name for name in ("fold0/result.json", "config.json", "manifest.parquet")]),
        "finish": (finish, [*start, *sorted((run / "oof").iterdir()), fold / "best.safetensors"]),
    }


@pytest.fixture
def cache(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scan that is remembered."""
    monkeypatch.setenv("HECTOCAR_CACHE", str(tmp_path / "cache"))
    call_well(project.folds(tmp_path / "folds.csv"))
    return tmp_path / "cache"


def run_reader(reader: Reader, scratch: Path) -> tuple[int, str, object]:
    """Exit code, message and result of a command in a fresh scratch folder."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    if reader.parts:
        shutil.copytree(reader.parts, scratch / "a.csv.parts")
    code, out, err = call(reader.words(scratch))
    return code, err, reader.result(scratch, out) if code == 0 else None


def try_mutants(readers: dict[str, tuple[Reader, list[Path]]], count: int, seed: int, scratch: Path) -> list[str]:
    """What broke the law."""
    expected = {name: run_reader(reader, scratch / "work") for name, (reader, _) in readers.items()}
    assert {name: code for name, (code, _, _) in expected.items() if code} == {}, expected
    pairs = [(reader, file) for reader, files in readers.values() for file in files]
    rng, failures = np.random.default_rng(seed), []
    for number in range(count):
        reader, file = pairs[number % len(pairs)]
        content = file.read_bytes()
        mutant, what = mutate(file, content, rng, scratch / "mutant")
        kept = {path: path.read_bytes() for folder in reader.restored for path in folder.rglob("*") if path.is_file()}
        place = f"{number}: {reader.name}: {file.name}: {what}"
        file.write_bytes(mutant)
        try:
            code, message, result = run_reader(reader, scratch / "work")
            if code not in (0, 2) or (code == 0 and result != expected[reader.name][2]):
                failures.append(f"{place}: exit {code}, another answer: {message[-200:]}")
            elif code == 2 and file.name not in message and str(file.parent) not in message:
                failures.append(f"{place}: the message does not name the file: {message[-300:]}")
            elif len(message) > 8_000:
                failures.append(f"{place}: a message of {len(message)} characters")
        except Exception as error:
            failures.append(f"{place}: {type(error).__name__}: {str(error)[:200]}")
        for path in [path for folder in reader.restored for path in folder.rglob("*") if path.is_file()]:
            if path not in kept:
                path.unlink()
        for path, before in kept.items():
            if not path.is_file() or path.read_bytes() != before:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(before)
        file.write_bytes(content)
    return failures


def test_a_changed_artefact_is_refused_or_changes_nothing(project: Project, cache: Path, tmp_path: Path) -> None:
    """150 mutants of what commands read back, seeded: exit code 2 and a message with the file's name, or the same answer."""
    readers = {name: pair for name, pair in list_readers(project, cache).items() if name != "finish"}
    assert try_mutants(readers, 150, 1, tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(8))
def test_two_thousand_changed_artefacts(seed: int, project: Project, cache: Path, tmp_path: Path) -> None:
    """The same for 8 x 250, with other seeds, and by `finish`, too."""
    readers = list_readers(project, cache)
    assert try_mutants({name: pair for name, pair in readers.items() if name != "finish"}, 240, 100 + seed, tmp_path) == []
    assert try_mutants({"finish": readers["finish"]}, 10, 200 + seed, tmp_path) == []
