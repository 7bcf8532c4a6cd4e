"""Laws of averages over weights: means are means, and nothing is kept that the judge finds no better."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hectocar.training.soup import Candidate, average_weights, brew_soup, mix_pretrained


def weights(value: float, steps: int = 3) -> dict[str, Tensor]:
    return {"backbone.w": torch.full((2, 2), value), "head.w": torch.full((2,), 10.0), "steps": torch.tensor(steps)}


def judge(found: dict[str, Tensor]) -> dict[str, Any]:
    """The loss is the distance of the backbone's weight to 3."""
    return {"log_loss": abs(float(found["backbone.w"].mean()) - 3.0)}


def candidate(value: float) -> Candidate:
    return Candidate(f"at {value:g}", weights(value), judge(weights(value)))


def test_the_mean_is_weighted_and_counters_are_the_first_ones() -> None:
    """Floats are averaged in double and keep their type; an integer is no average."""
    mean = average_weights([weights(1.0, 3), weights(5.0, 9)], [0.25, 0.75])
    assert mean["backbone.w"].tolist() == [[4.0, 4.0], [4.0, 4.0]]
    assert mean["backbone.w"].dtype == torch.float32
    assert int(mean["steps"]) == 3


def test_a_soup_takes_only_what_helps() -> None:
    """2 and 4 average to the optimum; 9 would spoil it and is left out; a lone best stays itself."""
    soup = brew_soup([candidate(9.0), candidate(4.0), candidate(2.0)], judge)
    assert soup.log_loss == 0.0
    assert soup.name == "soup of at 4 + at 2"
    alone = brew_soup([candidate(3.0), candidate(9.0)], judge)
    assert alone.name == "at 3"


@pytest.mark.parametrize(("pretrained", "expected"), [(1.0, 4.6), (9.0, 5.0)])
def test_the_pretrained_share_is_kept_only_if_better(pretrained: float, expected: float) -> None:
    """Mixing 5 with 1 goes the right way, with 9 the wrong one; the head is left alone."""
    mixed = mix_pretrained(candidate(5.0), {"backbone.w": torch.full((2, 2), pretrained)}, [0.05, 0.1], judge)
    assert float(mixed.weights["backbone.w"].mean()) == pytest.approx(expected)
    assert torch.equal(mixed.weights["head.w"], weights(0.0)["head.w"])
