"""Laws of float32 on a GPU: it is exact from the first training step and the first answer on."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from hectocar.network.exact import use_exact_float32
from hectocar.training.cpu import prepare_training
from tiny import CPU

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def fast_float32() -> Iterator[None]:
    """TF32 wherever torch may take it; what was set before comes back."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def read_state() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def test_a_gpu_gets_exact_float32_and_a_processor_is_left_alone() -> None:
    use_exact_float32(CPU)
    assert read_state() == ("high", True)
    use_exact_float32(CUDA)
    assert read_state() == ("highest", False)


def test_training_begins_with_it() -> None:
    prepare_training(nn.Identity(), CUDA, "float32")
    assert read_state() == ("highest", False)
