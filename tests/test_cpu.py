"""Laws of training on a processor: freed memory is not fetched again page by page, plain attention gives the same numbers."""

import copy
import subprocess
import sys

import pytest
import timm
import torch

from hectocar.network.folding import use_plain_attention
from hectocar.training.cpu import prepare_training

FAULTS = """
import resource, sys
sys.path[:0] = sys.argv[2:]
import numpy as np
from hectocar.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(9)
for turn in range(6):
    if turn == 1:
        first = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(30_000_000, dtype=np.uint8) for _ in range(4)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - first)
"""


def count_faults(how: str) -> int | None:
    """Page faults of five turns that each take 120 MB and free them; None where the C library has no such setting."""
    run = subprocess.run([sys.executable, "-c", FAULTS, how, *sys.path], capture_output=True, text=True, timeout=600)
    assert run.returncode in (0, 9), run.stderr
    return int(run.stdout) if run.returncode == 0 else None


def test_freed_memory_is_used_again() -> None:
    """Blocks of the size of a layer's activations are fetched from the kernel once, not at every step."""
    kept, plain = count_faults("keep"), count_faults("plain")
    if kept is None or plain is None:
        pytest.skip("this C library has no mallopt")
    assert kept < 0.1 * plain


def test_plain_attention_gives_what_the_fused_gives() -> None:
    """Output and gradients agree within rounding in float32; a second call finds nothing to change."""
    torch.manual_seed(0)
    fused = timm.create_model("test_vit", pretrained=False, num_classes=0)
    plain = copy.deepcopy(fused)
    assert use_plain_attention(plain) > 0
    assert use_plain_attention(plain) == 0
    images = torch.randn(2, 3, *fused.pretrained_cfg["input_size"][1:])
    outputs = [network(images) for network in (fused, plain)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    for output in outputs:
        output.square().sum().backward()
    for ours, theirs in zip(plain.parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("device", "precision"), [("cuda", "bfloat16"), ("cpu", "float32")])
def test_attention_stays_fused_where_that_is_fast(device: str, precision: str) -> None:
    """On a GPU, and in float32."""
    network = timm.create_model("test_vit", pretrained=False, num_classes=0)
    prepare_training(network, torch.device(device), precision)
    assert use_plain_attention(network) > 0
