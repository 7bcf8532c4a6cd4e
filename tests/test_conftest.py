"""Laws of the suite itself: it never plays dice."""

import os
import random
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

DRAW = "import sys; sys.path[:0] = sys.argv[1:]; import conftest, test_conftest; print(test_conftest.draw_examples())"


def draw_examples() -> str:
    """What the fast profile draws."""
    drawn = []

    @hypothesis.given(st.lists(st.integers() | st.floats() | st.binary()), st.integers(0, 2**40))
    @hypothesis.settings(max_examples=30)
    def collect(values: list[object], number: int) -> None:
        drawn.append((values, number))

    collect()
    return repr(drawn)


def test_the_fast_suite_draws_the_same_examples_everywhere() -> None:
    """Another process, hash seed, home, time zone and order of imports: the same examples to the last bit."""
    here = Path(__file__).parent
    varied = {"PYTHONHASHSEED": "7", "HOME": "/nowhere", "TZ": "PST8", "CI": "1", "OMP_NUM_THREADS": "3", "COLUMNS": "11"}
    command = [sys.executable, "-c", DRAW, str(here), str(here.parent / "src")]
    result = subprocess.run(command, env=os.environ | varied, check=True, capture_output=True, text=True, timeout=300)
    assert result.stdout.strip() == draw_examples()


def test_no_property_test_draws_at_random_or_against_the_clock(request: pytest.FixtureRequest) -> None:
    """Of all that was collected none overrides the profile: derandomized, no database of past failures, no deadline."""
    tests = [item for item in request.session.items if item.get_closest_marker("hypothesis")]
    for item in tests:
        settings = item.obj._hypothesis_internal_use_settings  # type: ignore[attr-defined]
        assert settings.derandomize, item.nodeid
        assert settings.database is None, item.nodeid
        assert settings.deadline is None, item.nodeid
        assert hypothesis.HealthCheck.too_slow in settings.suppress_health_check, item.nodeid


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_test_starts_with_the_same_seeds_and_leaves_no_trace(attempt: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unseeded draws are those of seed 0, and what a test did to the environment or the umask is gone in the next."""
    assert "LEFT_BEHIND" not in os.environ
    assert os.umask(0o077) == 0o022
    os.environ["LEFT_BEHIND"] = str(attempt)
    assert torch.rand(1).item() == torch.rand(1, generator=torch.Generator().manual_seed(0)).item()
    assert random.random() == random.Random(0).random()
    assert np.random.random() == np.random.RandomState(0).random()
