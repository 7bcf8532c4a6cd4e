"""What all tests share: nothing here may vary from run to run, from machine to machine, or with what ran before.

The fast suite draws the same examples everywhere (`fast`); `make test-search` draws others at random (tests/search.py).
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before NumPy and torch are imported: one thread, so that sums do not depend on the number of cores.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
# A person's terminal, clock, language and network decide nothing.
os.environ.update(COLUMNS="80", TERM="dumb", TZ="UTC", LC_ALL="C.UTF-8", HF_HUB_OFFLINE="1")
os.environ.pop("NO_COLOR", None)
os.environ.pop("FORCE_COLOR", None)
os.environ.pop("CI", None)
os.environ.pop("CXX", None)
os.environ.pop("MPLBACKEND", None)  # the notebook's kernel chooses its own
# A test that is about the scan's cache gives it a folder of its own; no test reads or fills the user's.
os.environ["HECTOCAR_CACHE"] = "off"

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis.internal.conjecture import providers

if TYPE_CHECKING:
    from project import Project

torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared"
# Generating may be slow on a machine that others use: only an answer can be wrong.
_SLOW = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("fast", derandomize=True, deadline=None, suppress_health_check=_SLOW)
hypothesis.settings.register_profile(
    "search", derandomize=False, database=None, deadline=None, suppress_health_check=_SLOW, print_blob=True
)
hypothesis.settings.load_profile("fast")
# Hypothesis mixes in constants of whatever local modules are imported by then: other draws for each order of tests, and
# after each edit anywhere.
providers._get_local_constants = lambda: providers._local_constants  # never filled


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    """Each test starts with the same seeds, umask and environment, whichever tests ran before it in this process."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    umask, environment = os.umask(0o022), dict(os.environ)
    yield
    os.umask(umask)
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights beside the checkout; absent on most machines."""
    if not (SHARED / "data" / "cars196" / "train").is_dir():
        pytest.skip(f"real data absent: {SHARED / 'data' / 'cars196'} does not exist")
    return SHARED


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> "Project":
    """A project with all that commands read back; tests that change it take a copy."""
    from project import make_project  # with torch and all commands: not for every test

    with pytest.MonkeyPatch.context() as patch:
        return make_project(tmp_path_factory.mktemp("project"), patch)
