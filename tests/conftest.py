"""What all tests share: one thread, so that results do not depend on the machine's cores, and paths to the real data."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A test that is about the scan's cache gives it a folder of its own; no test reads or fills the user's.
os.environ["HECTOCAR_CACHE"] = "off"

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# A person's run explores new examples each time; CI repeats the same ones, so that it fails only for what was changed.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights beside the checkout; absent on most machines."""
    if not (SHARED / "data" / "cars196" / "train").is_dir():
        pytest.skip(f"real data absent: {SHARED / 'data' / 'cars196'} does not exist")
    return SHARED
