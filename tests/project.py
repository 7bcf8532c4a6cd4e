"""One small project from photographs to bundle, with all that commands read back: trained, finished, audited, ablated."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from hectocar.cli import main
from tiny import write_photos

TRAIN = (
    "--preset", "demo", "--set", "network.backbone=test_efficientnet", "--weights", "none", "--set", "training.epochs=1",
    "--set", "training.warmup_epochs=0", "--set", "data.num_folds=2", "--set", "data.num_workers=1", "--device", "cpu",
    "--set", "training.sizes=[{epochs: 1, size_px: 32, batch_size: 8, learning_rate: 1e-3}]",
)  # fmt: skip
PLAN = """
title: Tiny
preset: demo
base:
  data: {num_folds: 2, num_workers: 1}
  network: {backbone: test_efficientnet, weights: none}
  training: {epochs: 1, warmup_epochs: 0, sizes: [{epochs: 1, size_px: 32, batch_size: 8, learning_rate: 1.0e-3}]}
seeds: [1]
variants: {base: {}, other: {training: {label_smoothing: 0.1}}}
"""


@dataclass(frozen=True)
class Project:
    """A folder with data/, run/, bundle/, audit/, ablation/, plan.yaml and answer.csv.parts/."""

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def train(self) -> list[str]:
        return [
            "train",
            str(self / "data"),
            *TRAIN,
            "--fold",
            "all",
            "--audit",
            str(self / "audit"),
            "--out",
            str(self / "run"),
        ]

    def predict(self, model: str, out: Path) -> list[str]:
        photos = sorted(map(str, (self / "data" / "train" / "car 0").iterdir()))[:3]
        return ["predict", str(self / model), *photos, "--out", str(out), "--device", "cpu", "--workers", "1"]

    def finish(self, out: Path) -> list[str]:
        return ["finish", str(self / "run"), "--views", "plain,mirror", "--out", str(out), "--device", "cpu"]

    def ablate(self) -> list[str]:
        words = ["ablate", str(self / "plan.yaml"), str(self / "data"), "--out", str(self / "ablation")]
        return [*words, "--device", "cpu"]

    def folds(self, out: Path) -> list[str]:
        return ["folds", str(self / "data"), "--audit", str(self / "audit"), "--out", str(out), "--set", "data.num_folds=2"]


def call(words: list[str]) -> tuple[int, str, str]:
    """Exit code, what was printed, and the message."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def call_well(words: list[str]) -> str:
    code, out, err = call(words)
    assert code == 0, err
    return out


def make_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Makes it by the commands, and interrupts a prediction so that its parts stay."""
    project = Project(folder)
    write_photos(folder / "data")
    shift = '{"gain": 0.8, "offset": 0.0, "gamma": 1.0, "jpeg_quality": 0}'
    (folder / "own_shift.json").write_text(shift)
    (folder / "plan.yaml").write_text(PLAN)
    call_well(["audit", str(folder / "data"), "--out", str(folder / "audit"), "--device", "cpu"])
    call_well([*project.train(), "--set", f"data.shift={folder / 'own_shift.json'}"])
    call_well(project.finish(folder / "bundle"))
    call_well(project.ablate())

    def cut(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hectocar.delivery.submit.write_submission", cut)
        assert call(project.predict("bundle", folder / "answer.csv"))[0] == 130
    return project
