"""Laws of the cost table: one row per size phase, what is split is said, and only a GPU has a measured peak."""

import pytest

from hectocar.cli import main
from hectocar.lab.step_cost import measure_step_costs, step_cost_rows
from tiny import CPU, make_config


def test_each_phase_is_measured() -> None:
    """Rates are positive and ordered; the planned memory grows with the area; a tiny limit splits the batch."""
    costs = measure_step_costs(make_config(), CPU, num_classes=4, num_steps=2)
    assert [cost.phase.size_px for cost in costs] == [32, 48]
    assert all(0.0 < c.slowest_per_second <= c.images_per_second <= c.fastest_per_second for c in costs)
    assert costs[0].planned_gib < costs[1].planned_gib
    assert [cost.num_chunks for cost in costs] == [1, 1]
    split = measure_step_costs(make_config(memory_gib=1e-4), CPU, num_classes=4, num_steps=1)
    assert [cost.num_chunks for cost in split] == [2, 2]
    rows = step_cost_rows(costs)
    assert len(rows) == 3
    assert {row[4] for row in rows[1:]} == {"-"}


def test_plan_measures_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """`hectocar plan --measure` prints the schedule and the cost; nonsense is refused."""
    sizes = "training.sizes=[{epochs: 1, size_px: 32, batch_size: 4, learning_rate: 1e-3}]"
    command = ["plan", "--measure", "--steps", "1", "--device", "cpu", "--classes", "4", "--set", sizes, "--set"]
    assert main([*command, "network.backbone=test_efficientnet"]) == 0
    out = capsys.readouterr().out
    assert "images/s" in out
    assert "memory GiB" in out
    assert main([*command, "network.backbone=test_efficientnet", "--steps", "0"]) == 2
    assert "--steps is 0" in capsys.readouterr().err
