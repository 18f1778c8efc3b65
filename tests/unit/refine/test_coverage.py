"""Coverage: hand-made boxes, clipped edges, derivatives."""

from __future__ import annotations

import math

import pytest
import torch

from pasr_perception.refine import Boxes
from pasr_perception.refine.coverage import TOLERANCE, coverage

BOX = torch.tensor([[0.1, 0.2, 0.9, 0.8]]).double()
FREE = torch.zeros(1, 4, dtype=torch.bool)


def test_a_box_met_costs_nothing() -> None:
    found = coverage(BOX, Boxes(BOX, FREE), torch.full((1,), 0.03).double())
    assert found.cost.item() == 0
    assert not found.gradient.any()


def test_one_edge_off_by_a_tolerance() -> None:
    edges = BOX + torch.tensor([[TOLERANCE, 0, 0, 0]])
    assert coverage(edges, Boxes(BOX, FREE), torch.full((1,), 0.04).double()).cost.item() == pytest.approx(
        0.01 * (math.sqrt(2) - 1)
    )


def test_a_cut_edge_only_asks_to_be_reached() -> None:
    clipped = torch.tensor([[True, False, True, False]])
    beyond = BOX + torch.tensor([[-0.2, 0, 0.1, 0]])
    short = BOX + torch.tensor([[0.2, 0, -0.1, 0]])
    assert coverage(beyond, Boxes(BOX, clipped), torch.full((1,), 0.03).double()).cost.item() == 0
    assert (
        coverage(short, Boxes(BOX, clipped), torch.full((1,), 0.03).double()).cost
        == coverage(short, Boxes(BOX, FREE), torch.full((1,), 0.03).double()).cost
        > 0
    )


def test_its_derivatives_agree_with_differences() -> None:
    edges = BOX + torch.tensor([[0.03, -0.1, 0.002, 0.2]])
    found, step = coverage(edges, Boxes(BOX, FREE), torch.full((1,), 0.03).double()), 1e-6
    for k in range(4):
        move = step * torch.eye(4).double()[k]
        after, before = (
            coverage(edges + move, Boxes(BOX, FREE), torch.full((1,), 0.03).double()),
            coverage(edges - move, Boxes(BOX, FREE), torch.full((1,), 0.03).double()),
        )
        slope = (after.cost - before.cost) / (2 * step)
        torch.testing.assert_close(found.gradient[:, k], slope, rtol=1e-5, atol=1e-9)
    # the curvature is the secant one (gradient / offset), an upper bound that is never negative
    torch.testing.assert_close(found.curvature, found.gradient / (edges - BOX))
    assert (found.curvature > 0).all()
