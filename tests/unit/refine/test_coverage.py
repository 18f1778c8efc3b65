"""Coverage: hand-made boxes, clipped edges, derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.kernels.missing import Boxed, missing_costs
from pasr_perception.refine import Boxes, Pose, RenderScene
from pasr_perception.refine.coverage import TOLERANCE, coverage
from pasr_perception.refine.outline import outline
from pasr_perception.render.splat import SplatConfig

SPLAT = SplatConfig(size=12, radius=0.2, points_per_pixel=4, depth_band=0.2)
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


def test_the_loop_says_what_tensors_say(toy: Any) -> None:
    """Over poses that miss their boxes on all sides, some of which are cut."""
    generator = torch.Generator().manual_seed(1)
    outer, scene = toy.cloud(3)[0][None, :40].expand(12, -1, -1).contiguous(), RenderScene(ViewSpec(), SPLAT)
    pose = Pose(toy.rotations(12), 0.2 * torch.randn(12, 2, generator=generator), torch.linspace(-0.3, 0.3, 12))
    edges = torch.rand(12, 4, generator=generator) * 0.3 + torch.tensor([0.0, 0.0, 0.7, 0.7])
    boxes, toll = Boxes(edges, torch.rand(12, 4, generator=generator) > 0.5), torch.linspace(0.1, 1, 12)
    at = Pose(pose.rotation, pose.shift, pose.log_scale + 0.1).move(
        outline(outer, pose.rotation, scene.view).edges.unflatten(1, (2, 2)), 1
    )
    boxed = Boxed(*(t.numpy() for t in (boxes.edges, boxes.clipped, toll)))
    found = torch.from_numpy(missing_costs(outer.numpy(), boxed, pose.in_loops, scene.raster, 0.1))
    torch.testing.assert_close(found, coverage(at.flatten(1), boxes, toll).cost)
    assert found.std() > 0.05
    none = boxed._replace(toll=np.zeros(12, np.float32))
    assert not missing_costs(outer.numpy(), none, pose.in_loops, scene.raster, 0.1).any()
