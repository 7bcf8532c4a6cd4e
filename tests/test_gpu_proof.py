"""Laws of the proof on a GPU, dry-run on a processor: each stage gives a figure, each bar a verdict, whatever fails."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hectocar.lab.gpu_proof import STAGES, Stage, prove_gpu
from hectocar.lab.gpu_proof_bars import judge, list_bars
from hectocar.lab.gpu_proof_bench import Bench
from hectocar.lab.gpu_proof_figures import ERROR, SKIPPED, Figure, Recorder
from tiny import CPU


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make this test ten times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def give(record: Recorder, _: Bench) -> None:
    record.add("good", "one", 1.0)


def fail(record: Recorder, _: Bench) -> None:
    record.add("bad", "before", 1.0)
    raise RuntimeError("out of\nmemory")


@pytest.mark.slow
def test_every_stage_gives_figures_and_every_bar_a_verdict(tmp_path: Path, one_thread: None) -> None:
    """The whole proof in small: nothing fails, nothing is skipped, and what is right on a GPU is exact on a processor."""
    seen: list[Figure] = []
    proof = prove_gpu(tmp_path / "proof", seconds=3600, device=CPU, tiny=True, on_figure=seen.append)
    assert [f for f in proof.figures if f.name in (ERROR, SKIPPED)] == []
    assert {stage.name for stage in STAGES} == {figure.stage for figure in proof.figures if figure.value is not None}
    assert seen == list(proof.figures)
    lines = [json.loads(line) for line in (proof.folder / "figures.jsonl").read_text("utf-8").splitlines()]
    assert {"torch", "timm", "device", "cores"} <= lines[0]["fingerprint"].keys()
    assert [line["name"] for line in lines[1:]] == [figure.name for figure in proof.figures]
    verdicts = json.loads((proof.folder / "verdicts.json").read_text("utf-8"))
    assert [verdict["title"] for verdict in verdicts] == [bar.title for bar in list_bars([32, 48, 64, 80, 96], 16)]
    by_title = {verdict["title"]: verdict for verdict in verdicts}
    unmeasured = {title for title, verdict in by_title.items() if verdict["verdict"] == "not measured"}
    assert all(title.startswith("utilisation") for title in unmeasured), "a processor has no known peak, all else has figures"
    for title in ("CPU against GPU: loss of 20 steps in float32", "compiled against eager: loss"):
        assert (by_title[title]["verdict"], by_title[title]["value"]) == ("met", 0.0)
    assert all(by_title[f"resumed training equals a whole one, {kind}"]["value"] == 0.0 for kind in ("bfloat16", "float16"))
    assert by_title["graphs of each size"]["verdict"] == "met"
    table = (proof.folder / "table.md").read_text("utf-8")
    assert all(verdict.title in table for verdict in proof.verdicts)


def test_a_stage_that_fails_is_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    stages = (Stage("bad", 0.0, fail), Stage("good", 0.0, give))
    proof = prove_gpu(tmp_path / "proof", seconds=60, device=CPU, tiny=True, stages=stages)
    assert [(f.stage, f.name, f.value) for f in proof.figures] == [
        ("bad", "before", 1.0),
        ("bad", ERROR, None),
        ("good", "one", 1.0),
    ]
    assert proof.figures[1].note == "RuntimeError: out of memory"
    assert {verdict.verdict for verdict in proof.verdicts} == {"not measured"}


def test_a_stage_that_does_not_fit_is_skipped_with_its_reason(tmp_path: Path) -> None:
    record = Recorder(tmp_path, 10.0, {})
    assert record.fits("short", 5.0)
    assert not record.fits("long", 20.0)
    assert [(f.stage, f.name) for f in record.figures] == [("long", SKIPPED)]
    assert record.figures[0].note.startswith("needs about 20 s, ")
    bars = list_bars([256], 16)
    assert all(verdict.value is None for verdict in judge(bars, record.figures))


def test_the_worst_figure_is_held_against_the_bar() -> None:
    """Names are compared whole or behind their last comma: bfloat16 is not float16."""
    bars = {bar.title: bar for bar in list_bars([256, 384], 16)}
    own = [
        bars["float16 against float32: loss"],
        bars["the GPU waits for data"],
        bars["utilisation at 384 px, loader included"],
    ]
    figures = [
        Figure("precision", "bfloat16, loss", 0.04),
        Figure("precision", "float16, loss", 0.001),
        Figure("step compiled", "256 px, waiting for data", 0.01),
        Figure("step compiled", "384 px, waiting for data", 0.05, note="loop"),
        Figure("step compiled", "384 px, loop utilisation", None, note="unknown peak"),
    ]
    verdicts = judge(own, figures)
    assert [(v.verdict, v.value) for v in verdicts] == [("met", 0.001), ("missed", 0.05), ("not measured", None)]
    assert verdicts[1].note == "384 px, waiting for data; loop"
    assert "unknown peak" in verdicts[2].note
