"""Laws of the heads: the definition by arccos, one class at a time, and an independent library are the references."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import ArcFaceLoss, SubCenterArcFaceLoss
from torch import Tensor
from torch.nn import functional as F

from hectocar.network.arcface import SubcenterArcFace, add_angular_margin
from hectocar.network.carnet import soft_cross_entropy
from hectocar.network.softmax import SoftmaxHead

DIM, NUM_CLASSES, BATCH, SCALE = 8, 5, 6, 30.0
MARGINS = [0.05, 0.1, 0.5, 1.5]


def make_head(num_subcenters: int = 3, seed: int = 0) -> SubcenterArcFace:
    torch.manual_seed(seed)
    return SubcenterArcFace(DIM, NUM_CLASSES, num_subcenters, SCALE)


def make_batch(dtype: torch.dtype = torch.float32, num_labels: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    embed_BD = 4.0 * torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64)
    return embed_BD.to(dtype), torch.randint(0, NUM_CLASSES, (BATCH, num_labels), generator=generator)


def compute_slowly(head: SubcenterArcFace, embed_BD: Tensor, label_BM: Tensor, margin_rad: float) -> Tensor:
    """Eq. 3 of both papers in Python floats: the largest cosine of a class, its angle, the margin, the straight line."""
    centers = head.centers.detach().double().view(NUM_CLASSES, head.num_subcenters, DIM)
    logits = torch.zeros(len(embed_BD), NUM_CLASSES, dtype=torch.float64)
    for b, embed in enumerate(embed_BD.double()):
        for c in range(NUM_CLASSES):
            cosine = max(float(embed @ center) / (float(embed.norm()) * float(center.norm())) for center in centers[c])
            theta = math.acos(min(1.0, max(-1.0, cosine)))
            if c in label_BM[b].tolist():
                past_pi = theta + margin_rad >= math.pi
                cosine = cosine - margin_rad * math.sin(margin_rad) if past_pi else math.cos(theta + margin_rad)
            logits[b, c] = head.scale * cosine
    return logits


@pytest.mark.parametrize("margin_rad", [0.0, *MARGINS])
@pytest.mark.parametrize("num_subcenters", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_equals_a_slow_loop_in_every_precision(dtype: torch.dtype, num_subcenters: int, margin_rad: float) -> None:
    """Whatever type the embedding has, under autocast too, the logits are the float32 ones of the numbers that came in."""
    head, (embed_BD, label_BM) = make_head(num_subcenters), make_batch(dtype)
    expected = compute_slowly(head, embed_BD, label_BM, margin_rad)
    logits = head(embed_BD, label_BM, margin_rad)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), expected, rtol=0.0, atol=3e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(embed_BD, label_BM, margin_rad), logits)


@pytest.mark.parametrize("margin_rad", [0.0, *MARGINS])
@pytest.mark.parametrize("num_subcenters", [1, 3])
def test_equals_pytorch_metric_learning(num_subcenters: int, margin_rad: float) -> None:
    """Loss and gradients equal SubCenterArcFaceLoss, and ArcFaceLoss for K = 1 (weights transposed, margin in degrees)."""
    settings = {"num_classes": NUM_CLASSES, "embedding_size": DIM, "margin": math.degrees(margin_rad), "scale": SCALE}
    references = [SubCenterArcFaceLoss(sub_centers=num_subcenters, **settings)]
    references += [ArcFaceLoss(**settings)] if num_subcenters == 1 else []
    for reference in references:
        head, (embed_BD, label_BM) = make_head(num_subcenters), make_batch()
        reference.W.data = head.centers.detach().t().clone()
        own, other = embed_BD.clone().requires_grad_(), embed_BD.clone().requires_grad_()
        loss = F.cross_entropy(head(own, label_BM, margin_rad), label_BM[:, 0])
        expected = reference(other, label_BM[:, 0])
        loss.backward()
        expected.backward()
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(head.centers.grad, reference.W.grad.t(), rtol=1e-3, atol=2e-5)


def test_one_subcenter_is_plain_arcface() -> None:
    """K = 1, and K = 3 with three equal centres, are ArcFace with one centre."""
    plain, threefold, (embed_BD, label_BM) = make_head(1), make_head(3), make_batch()
    threefold.centers.data = plain.centers.data.repeat_interleave(3, dim=0)
    torch.testing.assert_close(threefold(embed_BD, label_BM, 0.2), plain(embed_BD, label_BM, 0.2))


@pytest.mark.parametrize("place", ["exactly 1", "exactly -1", "equal", "opposite", "rounded past 1", "rounded past -1", "zero"])
@pytest.mark.parametrize("margin_rad", [0.0, 0.1, 1.5])
def test_the_gradient_is_finite_where_arccos_explodes(place: str, margin_rad: float) -> None:
    """At |cosine| = 1, and where rounding takes it past 1, logits stay within reach and gradients finite; so for zeros."""
    head, generator = make_head(1), torch.Generator().manual_seed(2)
    if place.startswith("exactly"):
        head.centers.data[0] = 3.0 * torch.eye(DIM)[0]
        embed_BD = torch.eye(DIM)[:1] * float(place.split()[1])
        assert head.compute_cosine(embed_BD)[0, 0, 0].item() == float(place.split()[1])
    elif place in ("equal", "opposite"):
        embed_BD = head.centers.data[:1] * (2.5 if place == "equal" else -2.5)
    elif place == "zero":
        embed_BD = torch.zeros(1, DIM)
    else:
        vectors = torch.randn(4000, DIM, generator=generator)
        past = vectors[(F.normalize(vectors) * F.normalize(vectors)).sum(dim=1) > 1.0]
        assert len(past) > 0, "float32 unit vectors pass 1 often"
        embed_BD = past[:64] if place == "rounded past 1" else -past[:64]
        head = SubcenterArcFace(DIM, len(past[:64]), 1, SCALE)
        head.centers.data = past[:64].clone()
    label_BM = torch.arange(len(embed_BD))[:, None]
    embed_BD = embed_BD.clone().requires_grad_()
    logits = head(embed_BD, label_BM, margin_rad)
    assert bool((logits.abs() <= SCALE * (1.0 + margin_rad)).all())
    F.cross_entropy(logits, label_BM[:, 0]).backward()
    for grad in (embed_BD.grad, head.centers.grad):
        assert grad is not None
        assert bool(grad.isfinite().all())


@pytest.mark.parametrize("margin_rad", MARGINS)
def test_the_margins_own_gradient_is_bounded(margin_rad: float) -> None:
    """At cosines of exactly 1 and -1, and one rounding from them, the slope is finite: at most 1 + sin(m) / sqrt(1e-7)."""
    ends = torch.tensor([1.0, -1.0])
    cosine = torch.cat([ends, ends.nextafter(torch.zeros(2)), 0.9999 * ends, torch.zeros(1)]).requires_grad_()
    add_angular_margin(cosine, margin_rad).sum().backward()
    assert cosine.grad is not None
    assert bool((cosine.grad.abs() <= 1.0 + math.sin(margin_rad) / math.sqrt(1e-7)).all())
    assert bool((cosine.grad > 0.0).all())


@pytest.mark.parametrize("margin_rad", MARGINS)
def test_the_margin_always_falls_with_the_angle(margin_rad: float) -> None:
    """Over all of [0, pi] a larger angle has a smaller value, and every value is below the plain cosine."""
    theta = torch.linspace(0.0, math.pi, 20_001, dtype=torch.float64)
    cosine = theta.cos()
    value = add_angular_margin(cosine, margin_rad)
    assert bool((value.diff() < 0.0).all())
    assert bool((value < cosine).all())
    assert bool((add_angular_margin(cosine.float(), margin_rad).diff() <= 1.2e-7).all()), "float32: but for its rounding"


@pytest.mark.parametrize("margin_rad", MARGINS)
def test_the_straight_line_begins_near_where_the_cosine_ends(margin_rad: float) -> None:
    """At pi - m the value falls by cos(m) + m sin(m) - 1, about m^2 / 2 (0.005 for m = 0.1), and nowhere else by a jump."""
    theta = torch.linspace(0.0, math.pi, 200_001, dtype=torch.float64)
    falls = -add_angular_margin(theta.cos(), margin_rad).diff()
    place = int(falls.argmax())
    jump = math.cos(margin_rad) + margin_rad * math.sin(margin_rad) - 1.0
    assert float(theta[place]) == pytest.approx(math.pi - margin_rad, abs=2e-5)
    assert float(falls[place]) == pytest.approx(jump, abs=2e-5)
    assert jump == pytest.approx(margin_rad**2 / 2.0, rel=margin_rad**2 / 2.0)
    falls[place] = 0.0
    assert float(falls.max()) < 2e-5


@pytest.mark.parametrize("margin_rad", [-0.3, 0.0, 0.2])
def test_no_labels_or_no_margin_leave_the_cosines_alone(margin_rad: float) -> None:
    """Inference is the scaled cosine of the nearest sub-centre; a margin without labels, or of 0, changes no bit."""
    head, (embed_BD, label_BM) = make_head(), make_batch()
    plain = head(embed_BD)
    torch.testing.assert_close(plain, SCALE * head.compute_cosine(embed_BD).amax(dim=2))
    assert torch.equal(head(embed_BD, None, margin_rad), plain)
    assert torch.equal(head(embed_BD, label_BM, 0.0), plain)


def test_a_mixed_photograph_gets_the_margin_on_both_labels() -> None:
    """Two labels: both classes get it, once each, and no other; two equal labels are one label."""
    head, (embed_BD, label_BM) = make_head(), make_batch(num_labels=2)
    label_BM[0] = torch.tensor([3, 3])
    label_BM[1] = torch.tensor([0, 4])
    logits = head(embed_BD, label_BM, 0.1)
    torch.testing.assert_close(logits.double(), compute_slowly(head, embed_BD, label_BM, 0.1), rtol=0.0, atol=3e-5)
    torch.testing.assert_close(logits[:1], head(embed_BD[:1], torch.tensor([[3]]), 0.1))
    changed = (logits != head(embed_BD)).nonzero().tolist()
    assert changed == sorted([b, c] for b in range(BATCH) for c in set(label_BM[b].tolist()))


@pytest.mark.parametrize(
    "margin_rad",
    [
        0.0,
        0.1,
    ],
)
def test_two_equal_labels_have_the_gradient_of_one(margin_rad: float) -> None:
    """A photograph mixed with one of its own class trains as that class: the same loss, and the same gradient."""
    grads = []
    for label_BM, share_BM in ((torch.tensor([[3]]), torch.ones(1, 1)), (torch.tensor([[3, 3]]), torch.tensor([[0.3, 0.7]]))):
        head, embed_BD = make_head(), make_batch()[0][:1].requires_grad_()
        soft_cross_entropy(head(embed_BD, label_BM, margin_rad), label_BM, share_BM, 0.05).backward()
        assert head.centers.grad is not None
        grads.append(torch.cat([embed_BD.grad, head.centers.grad]))
    torch.testing.assert_close(grads[1], grads[0])


def test_the_softmax_head_is_a_linear_layer_without_margin() -> None:
    """The control has no margin to give and refuses one; under autocast it stays float32."""
    head, (embed_BD, label_BM) = SoftmaxHead(DIM, NUM_CLASSES), make_batch()
    expected = F.linear(embed_BD, head.linear.weight, head.linear.bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(embed_BD.bfloat16().float(), label_BM, 0.0), head(embed_BD.bfloat16()))
        assert torch.equal(head(embed_BD), expected)
    with pytest.raises(ValueError, match=r"margin_rad is 0\.1; allowed with a softmax head: 0"):
        head(embed_BD, label_BM, 0.1)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.05, 0.3])
def test_soft_cross_entropy_equals_torchs(label_smoothing: float) -> None:
    """Plain labels: torch's cross_entropy with label_smoothing. Mixed ones: torch's with the target written out."""
    logits_BC = 5.0 * torch.randn(BATCH, NUM_CLASSES, generator=torch.Generator().manual_seed(3))
    _, label_BM = make_batch(num_labels=2)
    label_BM[0] = torch.tensor([2, 2])
    plain = soft_cross_entropy(logits_BC, label_BM[:, :1], torch.ones(BATCH, 1), label_smoothing)
    torch.testing.assert_close(plain, F.cross_entropy(logits_BC, label_BM[:, 0], label_smoothing=label_smoothing))
    share_B = torch.rand(BATCH, generator=torch.Generator().manual_seed(4))
    share_BM = torch.stack([share_B, 1.0 - share_B], dim=1)
    target_BC = torch.zeros(BATCH, NUM_CLASSES).scatter_add_(1, label_BM, share_BM)
    mixed = soft_cross_entropy(logits_BC, label_BM, share_BM, label_smoothing)
    torch.testing.assert_close(mixed, F.cross_entropy(logits_BC, target_BC, label_smoothing=label_smoothing))
    assert soft_cross_entropy(logits_BC.bfloat16(), label_BM, share_BM, label_smoothing).dtype == torch.float32


@pytest.mark.parametrize("name", ["embed_dim", "num_classes", "num_subcenters"])
@pytest.mark.parametrize("value", [0, -1])
def test_bad_sizes_are_refused(name: str, value: int) -> None:
    """The error names the argument and states the allowed range."""
    sizes = {"embed_dim": 4, "num_classes": 3, "num_subcenters": 2} | {name: value}
    with pytest.raises(ValueError, match=f"{name} is {value}; allowed: 1 or more"):
        SubcenterArcFace(**sizes)
