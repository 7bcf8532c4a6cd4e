"""Laws of the augmentation for a GPU, tried on a CPU: what the plain one does, in one graph, within a handful of launches."""

import dataclasses
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hectocar.config.schema import AugmentConfig, MixPhase
from hectocar.network.arithmetic import normalize_batch
from hectocar.network.carnet import PixelStatistics
from hectocar.photos.shift import PhotoShift
from hectocar.training.augment import augment_batch, mix_batch
from hectocar.training.draws import draw_augment_params, draw_mix_params, find_partners
from hectocar.training.fused_augment import augment_packed, pack_params

PIXELS = PixelStatistics((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
OFF = AugmentConfig(affine_prob=0.0, color_prob=0.0, flip_prob=0.0, erase_prob=0.0)
ALL = AugmentConfig(
    affine_prob=0.7, color_prob=0.8, flip_prob=0.5, erase_prob=0.5, rotate_degrees=40.0, scale=0.3, hue=0.3, drift_prob=0.6,
    drift_strength=(0.3, 1.2),
)  # fmt: skip
SHIFT = PhotoShift(gain=0.8, offset=12.0, gamma=1.3)
TOLERANCE = 2e-4
"""Of the unit range: a grid that rounds otherwise moves a sample by 1e-5 of a pixel, and hue divides by the chroma."""


def make_batch(num: int, size_px: int) -> tuple[Tensor, np.ndarray[Any, Any]]:
    """Smooth pictures (in noise a rounding of the grid is a large step), one flat, one black; and their labels."""
    rng = np.random.default_rng(size_px)
    coarse = torch.from_numpy(rng.uniform(0.0, 255.0, (num, 3, 4, 4)).astype(np.float32))
    images = torch.nn.functional.interpolate(coarse, size=(size_px, size_px), mode="bilinear").round().to(torch.uint8)
    images[1], images[2] = 90, 0
    return images.permute(0, 2, 3, 1).contiguous(), rng.integers(0, 396, num)


def run_plain(
    config: AugmentConfig, phase: MixPhase, shift: PhotoShift | None, images_BHWC: Tensor, label_B: Any, epoch: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The reference: augmentation, mixing, normalisation and labels as the CPU has them."""
    rows, size_px = np.arange(len(label_B)), images_BHWC.shape[1]
    images = augment_batch(images_BHWC.permute(0, 3, 1, 2), draw_augment_params(config, 1, epoch, rows, size_px), shift)
    mix = draw_mix_params(phase, 1, epoch, rows, size_px)
    images = images if mix is None else mix_batch(images, mix)
    place_B2, share_B2 = find_partners(mix, len(rows))
    return normalize_batch(images, PIXELS), torch.from_numpy(label_B[place_B2]), torch.from_numpy(share_B2)


def run_packed(
    config: AugmentConfig, phase: MixPhase, shift: PhotoShift | None, images_BHWC: Tensor, label_B: Any, epoch: int,
    augment: Any = augment_packed,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    rows, size_px = np.arange(len(label_B)), images_BHWC.shape[1]
    params = draw_augment_params(config, 1, epoch, rows, size_px)
    table = torch.from_numpy(pack_params(params, draw_mix_params(phase, 1, epoch, rows, size_px), shift, label_B))
    result: tuple[Tensor, Tensor, Tensor] = augment(images_BHWC, table, PIXELS.mean_1311, PIXELS.std_1311)
    return result


@pytest.mark.parametrize("size_px", [31, 64])
@pytest.mark.parametrize("kind", ["none", "cutmix", "mixup"])
@pytest.mark.parametrize("shift", [None, SHIFT])
def test_it_does_what_the_plain_one_does(kind: Any, shift: PhotoShift | None, size_px: int) -> None:
    """Pixels within rounding; labels and shares the same."""
    images, label_B = make_batch(24, size_px)
    phase = MixPhase(epochs=1, kind=kind, alpha=1.0, prob=0.7)
    for epoch in range(4):
        expected = run_plain(ALL, phase, shift, images, label_B, epoch)
        found = run_packed(ALL, phase, shift, images, label_B, epoch)
        assert float(((found[0] - expected[0]) * PIXELS.std_1311).abs().max()) < TOLERANCE
        assert found[0].is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(found[2], expected[2])
        assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize(
    "change", [{}, {"flip_prob": 1.0}, {"erase_prob": 1.0}, {"flip_prob": 0.5, "erase_prob": 0.5, "affine_prob": 1.0}]
)
def test_what_is_not_resampled_or_recoloured_keeps_its_bits(change: dict[str, float]) -> None:
    """Flip, erasing and CutMix move pixels and change none; an affine or a colour without strength does nothing."""
    images, label_B = make_batch(16, 32)
    config = dataclasses.replace(OFF, **change, rotate_degrees=0.0, scale=0.0, shift=0.0)
    for kind in ("none", "cutmix"):
        phase = MixPhase(epochs=1, kind=kind, alpha=1.0, prob=0.5)  # type: ignore[arg-type]
        expected = run_plain(config, phase, None, images, label_B, 0)[0]
        found = run_packed(config, phase, None, images, label_B, 0)[0]
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6)  # the normalisation's own rounding


def test_one_graph_serves_all_phases_and_sizes() -> None:
    """Compiled once: neither what was drawn, nor the kind of mixing, nor another size or batch makes another graph."""
    graphs = []

    def count(module: Any, _: Any) -> Any:
        graphs.append(module)
        return module

    torch._dynamo.reset()
    compiled = torch.compile(augment_packed, dynamic=True, backend=count)
    for size_px, num in ((32, 8), (48, 8), (64, 6), (64, 5)):
        images, label_B = make_batch(num, size_px)
        for kind in ("none", "cutmix", "mixup"):
            phase = MixPhase(epochs=1, kind=kind, alpha=1.0, prob=0.7)  # type: ignore[arg-type]
            found = run_packed(ALL, phase, SHIFT, images, label_B, 0, compiled)
            assert torch.equal(found[0], run_packed(ALL, phase, SHIFT, images, label_B, 0)[0])
    assert len(graphs) == 1


KERNELS = """
import sys
sys.path[:0] = sys.argv[1:]
import torch
from torch._inductor import metrics
from test_fused_augment import ALL, SHIFT, make_batch, run_packed
from hectocar.config.schema import MixPhase
from hectocar.training.fused_augment import augment_packed
images, labels = make_batch(8, 64)
compiled = torch.compile(augment_packed, dynamic=True)
run_packed(ALL, MixPhase(epochs=1, kind="cutmix"), SHIFT, images, labels, 0, compiled)
print(metrics.generated_kernel_count)
"""


@pytest.mark.slow
def test_compiled_it_is_at_most_twenty_launches() -> None:
    """Counted in what the compiler makes for a processor; skipped where there is no compiler."""
    environment = os.environ | {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    run = subprocess.run(
        [sys.executable, "-c", KERNELS, *sys.path], capture_output=True, text=True, timeout=600, env=environment
    )
    if "InvalidCxxCompiler" in run.stderr:
        pytest.skip("no C++ compiler here")
    assert run.returncode == 0, run.stderr[-2000:]
    assert 1 <= int(run.stdout.split()[-1]) <= 20
