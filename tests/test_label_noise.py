"""Laws of dropping label noise: planted strangers go, a class keeps its dominant centre and at least half its photographs."""

import numpy as np
import torch

from hectocar.network.arcface import SubcenterArcFace
from hectocar.training.label_noise import find_noisy_places


def make_head() -> SubcenterArcFace:
    """Two classes of three orthogonal sub-centers each, in six dimensions."""
    head = SubcenterArcFace(6, 2, num_subcenters=3)
    with torch.no_grad():
        head.centers.copy_(torch.eye(6))
    return head


def near(axis: int, count: int, rng: np.random.Generator) -> np.ndarray:
    return (np.eye(6)[axis] + 0.1 * rng.standard_normal((count, 6))).astype(np.float32)


def test_planted_strangers_are_found() -> None:
    """Eight of class 0 gather at its second centre, two of class 1's kind among them are dropped; class 1 is clean."""
    rng = np.random.default_rng(0)
    embeddings = np.concatenate([near(1, 8, rng), near(4, 2, rng), near(5, 9, rng)])
    labels = np.array([0] * 10 + [1] * 9)
    dominant = make_head().find_dominant_centers(embeddings, labels)
    assert find_noisy_places(dominant, labels, 60.0).tolist() == [8, 9]
    assert dominant.center_C.tolist() == [1, 2]


def test_no_class_loses_more_than_half() -> None:
    """However far all are, the nearer half stays; at 180 degrees nobody goes."""
    rng = np.random.default_rng(0)
    embeddings = -near(0, 10, rng)
    labels = np.zeros(10, dtype=np.int64)
    dominant = make_head().find_dominant_centers(embeddings, labels)
    assert len(find_noisy_places(dominant, labels, 60.0)) == 5
    assert len(find_noisy_places(dominant, labels, 180.0)) == 0


def test_one_center_left_is_plain_arcface() -> None:
    """With the others retired the logits are those of a head with only the dominant centres, and so are the gradients."""
    torch.manual_seed(0)
    head, plain = SubcenterArcFace(5, 3, num_subcenters=2), SubcenterArcFace(5, 3, num_subcenters=1)
    dominant = torch.tensor([1, 0, 1])
    head.keep_centers(dominant.numpy())
    with torch.no_grad():
        plain.centers.copy_(head.centers.view(3, 2, 5)[torch.arange(3), dominant])
    embed, labels = torch.randn(7, 5), torch.randint(0, 3, (7, 1))
    logits = head(embed, labels, 0.2)
    torch.testing.assert_close(logits, plain(embed, labels, 0.2))
    logits.square().sum().backward()
    gradient = head.centers.grad
    assert gradient is not None
    assert gradient.view(3, 2, 5)[torch.arange(3), 1 - dominant].abs().max() == 0.0


def test_retirement_is_kept_with_the_weights() -> None:
    """Flags that were stored come back."""
    head = SubcenterArcFace(5, 3, num_subcenters=2)
    head.keep_centers(np.array([1, 0, 1]))
    other = SubcenterArcFace(5, 3, num_subcenters=2)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.active_CK, head.active_CK)


def test_a_margin_per_class() -> None:
    """Equal factors are the plain margin; a class with a larger one loses more of its logit."""
    torch.manual_seed(0)
    head = SubcenterArcFace(5, 3, num_subcenters=1)
    embed, labels = torch.randn(6, 5), torch.tensor([[0], [1], [2], [0], [1], [2]])
    plain = head(embed, labels, 0.2)
    head.margin_factor_C = torch.ones(3)
    torch.testing.assert_close(head(embed, labels, 0.2), plain)
    head.margin_factor_C = torch.tensor([1.0, 2.0, 0.0])
    changed = head(embed, labels, 0.2)
    own = changed.gather(1, labels)[:, 0]
    torch.testing.assert_close(own[[0, 3]], plain.gather(1, labels)[[0, 3], 0])
    assert (own[[1, 4]] < plain.gather(1, labels)[[1, 4], 0]).all()
    torch.testing.assert_close(own[[2, 5]], head(embed).gather(1, labels)[[2, 5], 0])
