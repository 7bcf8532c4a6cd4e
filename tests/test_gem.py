"""Laws of generalised-mean pooling: a slow loop over single numbers is the reference."""

import math

import pytest
import torch
from torch import Tensor

from hectocar.network.carnet import GeM

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def make_features(dtype: torch.dtype = torch.float32, scale: float = 3.0) -> Tensor:
    """(3, 4, 5, 6) numbers of both signs, already rounded to the type."""
    generator = torch.Generator().manual_seed(0)
    return (scale * torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64)).to(dtype)


def pool_slowly(features: Tensor, p: float, eps: float = 1e-6) -> Tensor:
    """Eq. 3 of Radenovic et al. number by number in Python floats."""
    pooled = torch.zeros(features.shape[:2], dtype=torch.float64)
    for row in range(features.shape[0]):
        for channel in range(features.shape[1]):
            values = [max(float(x), eps) for x in features[row, channel].flatten()]
            pooled[row, channel] = math.fsum(x**p for x in values) ** (1.0 / p) / len(values) ** (1.0 / p)
    return pooled


def make_gem(p: float) -> GeM:
    """Also beyond what the constructor allows: p is learnt."""
    gem = GeM()
    gem.p.data.fill_(p)
    return gem


@pytest.mark.parametrize("p", [1.0, 2.5, 3.0, 7.3, 20.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_a_slow_loop_in_every_precision(dtype: torch.dtype, p: float) -> None:
    """Whatever type comes in, the result is the float32 one of the numbers that came in: only the input is rounded."""
    features = make_features(dtype)
    pooled = make_gem(p)(features)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled.double(), pool_slowly(features, p), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sixty_cubed_does_not_overflow(dtype: torch.dtype) -> None:
    """60^3 is 216000, beyond float16's 65504; a map of 60 pools to 60 all the same, and 1e4 under a p of 20 too."""
    torch.testing.assert_close(GeM(3.0)(torch.full((1, 2, 7, 7), 60.0, dtype=dtype)), torch.full((1, 2), 60.0))
    torch.testing.assert_close(
        make_gem(20.0)(torch.full((1, 1, 7, 7), 10_000.0).to(dtype)), torch.tensor([[1e4]]), rtol=2e-3, atol=0
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [1.0, 3.0, 20.0])
def test_zeros_have_a_finite_value_and_gradient(dtype: torch.dtype, p: float) -> None:
    """A dead channel pools to eps, which float16 cubed could not hold, and poisons no gradient."""
    gem, features = make_gem(p), torch.zeros(2, 3, 4, 4, dtype=dtype, requires_grad=True)
    pooled = gem(features)
    torch.testing.assert_close(pooled, torch.full((2, 3), 1e-6))
    pooled.sum().backward()
    assert features.grad is not None
    assert gem.p.grad is not None
    assert bool(features.grad.isfinite().all())
    assert bool(gem.p.grad.isfinite())


def test_p_of_one_is_the_mean_of_the_non_negative_part() -> None:
    """The degenerate identity at the lower end; eps stands in for what is negative."""
    features = make_features()
    torch.testing.assert_close(make_gem(1.0)(features), features.clamp(min=1e-6).mean(dim=(2, 3)))
    torch.testing.assert_close(make_gem(1.0)(features.abs()), features.abs().mean(dim=(2, 3)))


def test_a_large_p_tends_to_the_maximum() -> None:
    """The degenerate identity at the upper end: between the maximum and maximum / N^(1/p), rising with p."""
    features = make_features().abs()
    largest, last = features.amax(dim=(2, 3)), torch.zeros(3, 4)
    for p in (1.0, 2.0, 4.0, 16.0, 64.0, 256.0, 1024.0):
        pooled = make_gem(p)(features)
        assert bool((pooled <= largest * (1.0 + 1e-6)).all())
        assert bool((pooled >= largest * (30.0 ** (-1.0 / p)) * (1.0 - 1e-6)).all())
        assert bool((pooled >= last * (1.0 - 1e-6)).all())
        last = pooled
    torch.testing.assert_close(last, largest, rtol=4e-3, atol=0.0)


@pytest.mark.parametrize("p", [1.0, 3.0, 6.5])
def test_the_gradient_of_p_equals_finite_differences(p: float) -> None:
    """d/dp of the slow loop in float64 is what autograd gives to the learnable exponent."""
    features, gem = make_features().abs(), make_gem(p)
    gem(features).sum().backward()
    step = 1e-5
    expected = (pool_slowly(features, p + step).sum() - pool_slowly(features, p - step).sum()) / (2.0 * step)
    assert gem.p.grad is not None
    assert float(gem.p.grad) == pytest.approx(float(expected), rel=2e-5)


@pytest.mark.parametrize("p", [1.0, 3.0, 6.5])
def test_the_gradient_of_the_features_equals_finite_differences(p: float) -> None:
    """Dividing by the largest value, which is held constant, leaves no trace in the gradient, at the largest value either."""
    features = make_features()[:1, :2]
    own = features.clone().requires_grad_()
    make_gem(p)(own).sum().backward()
    assert own.grad is not None
    step, expected = 1e-5, torch.zeros(features.shape, dtype=torch.float64)
    for place in range(features.numel()):
        up, down = features.double(), features.double()
        up.view(-1)[place] += step
        down.view(-1)[place] -= step
        expected.view(-1)[place] = (pool_slowly(up, p).sum() - pool_slowly(down, p).sum()) / (2.0 * step)
    torch.testing.assert_close(own.grad.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("autocast_dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_bit(autocast_dtype: torch.dtype) -> None:
    """Under autocast the pooling stays float32, forward and backward."""
    features = make_features(autocast_dtype)
    plain, cast = make_gem(3.0), make_gem(3.0)
    expected = plain(features)
    expected.sum().backward()
    with torch.autocast("cpu", autocast_dtype):
        pooled = cast(features)
        pooled.sum().backward()
    assert pooled.dtype == torch.float32
    assert torch.equal(pooled, expected)
    assert plain.p.grad is not None
    assert cast.p.grad is not None
    assert torch.equal(plain.p.grad, cast.p.grad)


def test_the_order_of_positions_and_the_memory_layout_do_not_matter() -> None:
    """Pooling sees a set of positions; scaling the features scales the result."""
    gem, features = make_gem(3.0), make_features().abs()
    torch.testing.assert_close(gem(features.flip(2, 3)), gem(features))
    torch.testing.assert_close(gem(features.to(memory_format=torch.channels_last)), gem(features))
    torch.testing.assert_close(gem(8.0 * features), 8.0 * gem(features))


@pytest.mark.parametrize("p", [0.99, 20.01, -3.0, float("nan"), float("inf")])
def test_a_bad_exponent_is_refused(p: float) -> None:
    """The error states the allowed range."""
    with pytest.raises(ValueError, match=r"p is .*; allowed: 1 to 20"):
        GeM(p)
