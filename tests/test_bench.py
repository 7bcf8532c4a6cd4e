"""``hectocar bench``: what it concludes from its samples, who takes part, and a tiny run from end to end."""

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hectocar.cli import main
from hectocar.errors import ArtifactError, DataError
from hectocar.lab import trainer
from hectocar.lab.bench import contestant, measure
from hectocar.lab.bench.cases import CASES, OURS, Entry, Job
from hectocar.lab.bench.contestant import Round, build_work, find_missing
from hectocar.lab.bench.figures import (
    Bench,
    Comparison,
    Contestant,
    compare_rounds,
    draw_order,
    find_peak_tflops,
    median_rate,
    training_tflops,
)
from hectocar.lab.bench.report import bench_notes, bench_rows, read_bench, save_bench
from hectocar.lab.step_cost import measure_step_costs
from hectocar.progress import NoProgress
from tiny import CPU, make_config, write_photos

SECONDS = st.floats(1e-3, 1e3)
PAIRS = st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=9)
HERE = [(case, who) for case, found in CASES.items() for who, entry in found.entries.items() if not find_missing(entry)]


@given(PAIRS, st.floats(0.25, 4.0))
def test_a_ratio_is_paired_by_rounds(pairs: list[tuple[float, float]], factor: float) -> None:
    """Its interval holds it; who takes twice the time is compared at twice the ratio; equal times are 1."""
    theirs, ours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratio = compare_rounds(theirs, ours)
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.median == pytest.approx(np.median([a / b for a, b in pairs]))
    assert compare_rounds([factor * a for a in theirs], ours).median == pytest.approx(factor * ratio.median)
    same = compare_rounds(ours, ours)
    assert (same.low, same.median, same.high) == (1.0, 1.0, 1.0)


@given(PAIRS, st.data())
def test_a_round_that_was_slow_for_both_changes_nothing(pairs: list[tuple[float, float]], data: st.DataObject) -> None:
    """That is why rounds are paired: another program may take half of the machine for a while."""
    slow = data.draw(st.lists(st.sampled_from([1.0, 2.0, 16.0]), min_size=len(pairs), max_size=len(pairs)))
    theirs, ours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    worse = [[a * b for a, b in zip(part, slow, strict=True)] for part in (theirs, ours)]
    assert compare_rounds(*worse) == compare_rounds(theirs, ours)


def test_rounds_that_cannot_be_paired_are_refused() -> None:
    """None, or not as many of one as of the other."""
    for theirs, ours in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match="allowed: as many of both"):
            compare_rounds(theirs, ours)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32))
def test_everybody_comes_once_a_round(num_names: int, num_rounds: int, seed: int) -> None:
    """Every round is a permutation, and the seed decides it."""
    names = [f"n{k}" for k in range(num_names)]
    order = draw_order(names, num_rounds, seed)
    assert len(order) == num_rounds
    assert all(sorted(row) == names for row in order)
    assert draw_order(names, num_rounds, seed) == order


def test_the_order_is_another_one_from_round_to_round() -> None:
    assert len(set(draw_order("abcdef", 10, 0))) > 5


def test_rates_and_arithmetic() -> None:
    """Images by the middle round; 6 x MACs; a peak only where one is known, and in 16 bits."""
    assert median_rate(10, [1.0, 2.0, 4.0]) == 5.0
    assert training_tflops(10**9, 1000.0) == 6.0
    assert find_peak_tflops("NVIDIA H100 80GB HBM3", "bfloat16") == 989.0
    assert find_peak_tflops("NVIDIA H100 PCIe", "bfloat16") == 756.0
    assert find_peak_tflops("NVIDIA H100 80GB HBM3", "float32") is None
    assert find_peak_tflops("", "bfloat16") is None


def make_job(folder: Path, case: str) -> Job:
    files = tuple(write_photos(folder)[:4])
    return Job(case, files, 2, 1, 1, 32 if CASES[case].size_px else 0, "test_efficientnet" if CASES[case].has_network else "")


@pytest.mark.parametrize(("case", "who"), HERE, ids=[f"{case} {who}" for case, who in HERE])
def test_everybody_who_is_here_does_a_round(case: str, who: str, tmp_path: Path) -> None:
    """Each contestant is built and passes two rounds; probabilities are one row of 396 per photograph."""
    work = build_work(CASES[case].entries[who], make_job(tmp_path, case))
    answer = work()
    assert len(work()) == len(answer) == (4 * 396 if case == "prediction" else 0)


def test_prediction_and_the_eager_loop_give_the_same_probabilities(tmp_path: Path) -> None:
    """To 1e-3: otherwise a ratio of their times means nothing."""
    ours, eager = (
        build_work(entry, make_job(tmp_path / name, "prediction"))() for name, entry in CASES["prediction"].entries.items()
    )
    np.testing.assert_allclose(ours, eager, atol=1e-3)


class Inside:
    """A contestant in this process; ``broken`` ones fail."""

    def __init__(self, entry: Entry, job: Job) -> None:
        self.entry, self.job = entry, job

    def __enter__(self) -> "Inside":
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self) -> Round:
        return Round(0.0, problem="OSError: broken") if self.entry.build == "broken" else Round(0.5, ())


def compare(monkeypatch: pytest.MonkeyPatch, entries: dict[str, Entry]) -> Comparison:
    monkeypatch.setattr(measure, "Process", Inside)
    return measure.compare(Job("scan", (Path("a"),), 2, 1, 1), entries, 3, 0, NoProgress())


def test_who_is_missing_or_fails_is_named_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is not installed says what to install; one that breaks says how; the others have all their rounds."""
    entries = {
        OURS: Entry("fine"), "absent": Entry("fine", ("imagehash",)), "broken": Entry("broken"), "other": Entry("fine")
    }  # fmt: skip
    monkeypatch.setattr(contestant, "find_spec", lambda name: None)
    found = {one.name: one for one in compare(monkeypatch, entries).contestants}
    assert found["absent"].problem == "not installed: imagehash (the extra 'bench')"
    assert found["broken"].problem == "OSError: broken"
    assert {name: len(one.seconds) for name, one in found.items()} == {OURS: 3, "absent": 0, "broken": 0, "other": 3}
    with pytest.raises(DataError, match="own side failed: OSError: broken"):
        compare(monkeypatch, {OURS: Entry("broken")})


def make_bench() -> Bench:
    contestants = (
        Contestant(OURS, 2, first_seconds=1.0, seconds=(0.1, 0.2, 0.3)),
        Contestant("timm <&>", 2, first_seconds=2.0, seconds=(0.2, 0.4, 0.6)),
        Contestant("kornia", 2, problem="not installed: kornia (the extra 'bench')"),
    )
    order = (("timm <&>", OURS), (OURS, "timm <&>"), (OURS, "timm <&>"))
    comparison = Comparison("step", 32, "net", "bfloat16", 8, contestants, order, macs=10**9, largest_difference=1e-5)
    return Bench("now", {"gpu": "NVIDIA H100 PCIe"}, {"torch": "2"}, "none", 4, 2, 0, (comparison,))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Number for number; a figure that was changed afterwards is found out, and a second run replaces the first."""
    bench, out = make_bench(), tmp_path / "out"
    for _ in range(2):
        save_bench(bench, out)
    assert read_bench(out) == bench
    (out / "bench.json").write_text((out / "bench.json").read_text().replace("0.1", "0.01"))
    with pytest.raises(ArtifactError, match="changed after it was written"):
        read_bench(out)
    with pytest.raises(ArtifactError, match="edited since"):
        save_bench(bench, out)


def test_table_and_plot_name_everybody(tmp_path: Path) -> None:
    """A ratio for those who have one, the reason for those who have none; the plot is an XML document."""
    _, ours, timm, kornia = bench_rows(make_bench())
    assert list(ours[:6]) == ["step 32 px net", OURS, "2", "40.0", "26.7", "80.0"]
    assert list(timm[6:8]) == ["2.00x", "2.00-2.00"]
    assert kornia[-1].startswith("not installed")
    notes = "\n".join(bench_notes(make_bench()))
    assert "6 x MACs x images/s = 0.240 TFLOP/s, loader and augmentation not included" in notes
    assert "utilisation 0.0% of 756 TFLOP/s dense" in notes
    save_bench(make_bench(), tmp_path / "out")
    root = ElementTree.parse(tmp_path / "out" / "bench.svg").getroot()
    texts = [item.text for item in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"timm <&>", "kornia"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loder"], "CASE is 'loder'; allowed: 'loader'"),
        (["loader", "--against", "keras"], "--against is 'keras'; allowed: 'recipe'"),
        (["step", "--size", "16"], "--size is 16; allowed: 32 to 2048"),
        (["step", "--backbone", "mobilnet"], "network.backbone is 'mobilnet'"),
        (["step", "--backbone", "test_vit", "--size", "40"], "test_vit cannot take 40 px"),
        (["loader", "--resize-photos", "690"], "--resize-photos is '690'; allowed: width x height"),
        (["loader", "--photos", "nowhere"], "--photos nowhere: no such folder"),
        (["loader", "--photos", "."], "--photos .: no readable photograph in it"),
        (["loader", "--device", "abacus"], "--device is 'abacus'"),
        (["--gpu-proof", "step"], "--gpu-proof has its own stages; 'step' is a case of a bench without it"),
        (["--gpu-proof", "--device", "cpu"], "--gpu-proof needs a GPU, and --device cpu is cpu here; --tiny is the dry run"),
    ],
)
def test_wrong_words_are_refused(
    words: Sequence[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured: exit code 2, one message, nothing written."""
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *words, "--out", str(tmp_path.parent / f"{tmp_path.name}-out")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_tiny_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Rendered cars, spawned processes, a peer that is not there: a table, the raw samples and a plot."""
    monkeypatch.setattr(contestant, "find_spec", lambda name: None)
    small = ["--resize-photos", "96x64", "--num-photos", "4", "--batch", "2", "--rounds", "2", "--workers", "1"]
    words = ["bench", "scan", "--against", "cached", "pillow", *small, "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "not installed: imagehash" in said
    (comparison,) = read_bench(tmp_path / "out").comparisons
    assert [one.name for one in comparison.contestants] == [OURS, "cached", "pillow"]
    assert [len(one.seconds) for one in comparison.contestants] == [2, 2, 0]
    assert all(second > 0.0 for one in comparison.contestants for second in one.seconds)
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["photographs"].startswith("4 photographs of the showroom")
    assert (tmp_path / "out" / "bench.svg").is_file()


def test_a_plan_measures_the_step_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """`plan --measure` calls what the loop calls: augmentation, the phase's margin, the optimizer, the averaged weights."""
    margins: list[float] = []
    monkeypatch.setattr(trainer, "take_step", lambda *args: args[3](*args[4]))
    own = trainer.compute_loss

    def note(whole: object, plan: trainer.EpochPlan, *rest: object) -> torch.Tensor:
        margins.append(plan.margin_rad)
        return own(whole, plan, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "compute_loss", note)
    costs = measure_step_costs(make_config(), CPU, 4, 1)
    assert [cost.phase.size_px for cost in costs] == [32, 48]
    assert margins == [0.1] * 3 + [0.05] * 3
