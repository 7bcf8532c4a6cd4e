"""Laws of the shifted validation: it is the plain one on other photographs, and it decides nothing."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from hectocar.network import arithmetic
from hectocar.network.arithmetic import autocast, has_fast_precision
from hectocar.network.weights import load_tensors_with_state
from hectocar.photos.batches import view_photo
from hectocar.photos.decode import decode_photo
from hectocar.photos.render import fit_photo
from hectocar.photos.shift import PhotoShift, apply_shift
from pictures import encode, make_picture
from tiny import make_config, make_fold, train, write_photos

DARK = PhotoShift(gain=0.5, offset=-20.0, gamma=1.2, jpeg_quality=50)


def test_a_shift_that_changes_nothing_changes_no_figure(tmp_path: Path) -> None:
    """With the identity both validations agree to the last digit; without a shift there is one only."""
    data = make_fold(write_photos(tmp_path / "data", suffix=".png"))
    config = make_config(epochs=1)
    plain = train(config, data, tmp_path / "plain")
    same = train(config, dataclasses.replace(data, shift=PhotoShift()), tmp_path / "same")
    assert "shifted_log_loss" not in plain
    assert same["shifted_log_loss"] == same["log_loss"] == plain["log_loss"]
    assert same["shifted_top1"] == same["top1"]


def test_the_shifted_validation_decides_nothing(tmp_path: Path) -> None:
    """The same epoch and the same weights win, whatever the shifted photographs say."""
    data = make_fold(write_photos(tmp_path / "data"))
    plain = train(make_config(), data, tmp_path / "plain")
    shifted = train(make_config(), dataclasses.replace(data, shift=DARK), tmp_path / "shifted")
    assert {key: shifted[key] for key in plain} == plain
    assert shifted["shifted_log_loss"] != shifted["log_loss"]
    first, second = (load_tensors_with_state(tmp_path / name / "best.safetensors")[0] for name in ("plain", "shifted"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_shifted_view_is_the_view_of_a_shifted_photograph() -> None:
    """The curve and the compression act at full size, before the photograph is brought into its square."""
    data = encode(make_picture(1, 600, 400))
    expected = fit_photo(apply_shift(decode_photo(data), DARK), 64, "stretch")
    assert np.array_equal(view_photo(data, 64, "stretch", shift=DARK), expected)
    assert view_photo(data, 64, "stretch", shift=DARK).mean() < view_photo(data, 64, "stretch").mean() - 40


@pytest.mark.parametrize(("precision", "native"), [("bfloat16", False), ("bfloat16", True), ("float16", False)])
def test_a_processor_without_the_precision_computes_in_float32(
    precision: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulated arithmetic is 16 times slower and less exact: it is never used silently instead."""
    has_fast_precision.cache_clear()
    monkeypatch.setattr(arithmetic, "_cpu_has", lambda _: native)
    device = torch.device("cpu")
    with autocast(device, precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (arithmetic.AUTOCAST_DTYPES[precision] if native else torch.float32)
    assert has_fast_precision(device, "float32")
    has_fast_precision.cache_clear()


@pytest.mark.parametrize(
    ("native", "precision", "expected"),
    [(False, "bfloat16", False), (True, "bfloat16", True), (False, "float16", True), (False, "float32", True)],
)
def test_a_gpu_without_bfloat16_computes_in_float32(
    native: bool, precision: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A T4 or V100 emulates bfloat16: as on a processor, float32 is used; its float16 is its own. Emulation does not count."""

    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or native

    has_fast_precision.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # else autocast switches itself off
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    device = torch.device("cuda")
    assert has_fast_precision(device, precision) == expected
    assert autocast(device, precision)._enabled == (expected and precision != "float32")
    has_fast_precision.cache_clear()
