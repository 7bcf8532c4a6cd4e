"""Mangled pictures walk through every command that reads photographs: a result or one message, never anything else."""

import csv
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from hectocar.cli import main
from image_kinds import make_image_kinds
from pictures import encode, make_picture

TINY = [
    "--preset", "demo", "--set", "network.backbone=test_resnet", "--set", "network.drop_path_max=0.0",
    "--set", "data.num_folds=2", "--set", "training.epochs=1",
    "--set", "training.sizes=[{epochs: 1, size_px: 48, batch_size: 16, learning_rate: 1.0e-3}]",
    "--set", "training.warmup_epochs=0",
]  # fmt: skip
PLAN = """
preset: demo
base:
  network: {backbone: test_resnet, drop_path_max: 0.0}
  data: {num_folds: 2}
  training: {epochs: 1, warmup_epochs: 0, sizes: [{epochs: 1, size_px: 48, batch_size: 16, learning_rate: 1.0e-3}]}
seeds: [1]
variants: {base: {}, other: {network: {scale: 9.0}}}
"""
CLASSES = ("audi", "bmw", "쏘나타")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, zeroed, cut out, doubled or put in, or the end lost: what disks, uploads and attackers leave."""
    raw = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place, length = rng.randrange(len(raw)), rng.choice((1, 1, 2, 8, 64, len(raw) // 3 or 1))
        kind = rng.randrange(6)
        if kind == 0:
            raw[place] = rng.randrange(256)
        elif kind == 1:
            raw[place : place + length] = bytes(len(raw[place : place + length]))
        elif kind == 2 and len(raw) > 2 * length:
            del raw[place : place + length]
        elif kind == 3:
            raw[place:place] = raw[place : place + length]
        elif kind == 4:
            raw[place:place] = rng.randbytes(length)
        elif kind == 5 and rng.random() < 0.3:
            del raw[max(1, place) :]
    return bytes(raw)


def make_mutated_data(folder: Path, num_mutated: int, seed: int) -> Path:
    """DATA with whole and mangled photographs in training and test, and the tables of the contest's layout."""
    rng = random.Random(seed)
    kinds = [file for key, file in make_image_kinds(folder / "kinds").items() if key.startswith("ok/")]
    sources = [(encode(make_picture(k, 96, 72)), ".jpg") for k in range(6)] + [(f.read_bytes(), f.suffix) for f in kinds]
    data = folder / "DATA"
    for place, name in enumerate(CLASSES):
        (data / "train" / name).mkdir(parents=True)
        for k in range(8):
            (data / "train" / name / f"whole{k}.jpg").write_bytes(encode(make_picture(100 * place + k, 96, 72)))
    (data / "test").mkdir()
    (data / "test" / "whole.jpg").write_bytes(encode(make_picture(999, 96, 72)))
    for k in range(num_mutated):
        source, suffix = rng.choice(sources)
        where = data / "test" if k % 3 == 0 else data / "train" / rng.choice(CLASSES)
        (where / f"m{k}{suffix}").write_bytes(mutate(source, rng))
    files = sorted(file.name for file in (data / "test").iterdir())
    with (data / "test.csv").open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([("ID", "img_path"), *((name, f"test/{name}") for name in files)])
    with (folder / "answers.csv").open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([("ID", "label"), *((name, CLASSES[k % 3]) for k, name in enumerate(files))])
    return data


def iter_commands(folder: Path, data: Path) -> Iterator[list[str]]:
    """Every command that reads photographs, in the order in which a user comes to them."""
    run, bundle, audit = (str(folder / name) for name in ("run", "bundle", "audit"))
    yield ["audit", str(data), "--out", audit]
    yield ["folds", str(data), "--set", "data.num_folds=2", "--out", str(folder / "folds.csv")]
    yield ["preview", str(data), "--preset", "demo", "--out", str(folder / "preview.png")]
    yield ["train", str(data), *TINY, "--audit", audit, "--fold", "all", "--out", run]
    yield ["audit", str(data), "--out", str(folder / "audit2"), "--run", run]
    yield ["finish", run, "--views", "plain,mirror", "--out", bundle]
    yield ["predict", bundle, str(data / "test.csv"), "--out", str(folder / "submission.csv")]
    yield ["predict", run, str(data / "test")]
    yield ["score", str(folder / "submission.csv"), str(folder / "answers.csv"), "--photos", str(data / "test.csv"),
           "--out", str(folder / "score")]  # fmt: skip
    yield ["ablate", str(folder / "plan.yaml"), str(data), "--out", str(folder / "ablation")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_every_command_survives_mangled_pictures(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hundred mangled pictures of every format among whole ones: each command ends in its result, and the damaged are named."""
    data = make_mutated_data(tmp_path, 100, seed)
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    for command in iter_commands(tmp_path, data):
        code = main(command)
        printed = capsys.readouterr()
        assert code == 0, f"{command}: {printed.err[-2000:]}"
        assert "Traceback" not in printed.err
