"""Telling cells apart against loops, with gradients; whose cells are wrong answers; which cells are drawn."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from pasr_perception.training.telling_apart import contrast, drawn

CLOUD = torch.tensor([0, 0, 1, 2, 2, 2])


@pytest.fixture
def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    image = normalize(torch.randn(6, 4, generator=g), dim=1)
    return image, normalize(image + 0.5 * torch.randn(6, 4, generator=g), dim=1).requires_grad_()


def slow_contrast(image: torch.Tensor, rendered: torch.Tensor, cloud: torch.Tensor, temperature: float) -> torch.Tensor:
    losses = []
    for one, other in ((image, rendered), (rendered, image)):
        for i in range(len(cloud)):
            right = (one[i] @ other[i] / temperature).exp()
            wrong = [(one[i] @ other[j] / temperature).exp() for j in range(len(cloud)) if cloud[j] != cloud[i]]
            losses.append(-(right / (right + sum(wrong))).log())
    return torch.stack(losses).mean()


def test_it_is_infonce_both_ways_and_so_is_its_gradient(pairs) -> None:
    image, rendered = pairs
    fast, slow = (contrast(image, rendered, CLOUD, 0.3) for contrast in (contrast, slow_contrast))
    torch.testing.assert_close(fast, slow)
    (of_fast,), (of_slow,) = (torch.autograd.grad(value, rendered) for value in (fast, slow))
    torch.testing.assert_close(of_fast, of_slow)


def test_cells_of_one_cloud_are_no_wrong_answers(pairs) -> None:
    image, rendered = pairs[0], pairs[1].detach()
    assert float(contrast(image, rendered, torch.zeros(6, dtype=torch.long), 0.3)) == 0.0
    alike = image[:1].expand(6, 4)
    assert float(contrast(alike, alike, torch.arange(6), 0.3)) == pytest.approx(math.log(6))
    assert float(contrast(alike, alike, CLOUD, 0.3)) == pytest.approx(
        (2 * math.log(5) + math.log(6) + 3 * math.log(4)) / 6
    )


def test_drawn_follow_from_the_seed() -> None:
    first = drawn(100, 30, (0, 7, 1))
    assert len(set(first.tolist())) == 30
    assert torch.equal(first, drawn(100, 30, (0, 7, 1)))
    assert not any(torch.equal(first, drawn(100, 30, other)) for other in ((1, 7, 1), (0, 8, 1), (0, 7, 0)))
    assert sorted(drawn(5, 30, (0,)).tolist()) == [0, 1, 2, 3, 4]
