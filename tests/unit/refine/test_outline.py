"""Outlines: outer points bound the cloud, and derivatives agree with differences of the placement itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.se3 import exp_so3
from pasr_perception.refine.outline import image_rate, outer_points, outline, outline_in_tensors

STEP = 1e-6


@pytest.fixture(scope="module")
def points(stage: Any) -> torch.Tensor:
    return stage.clouds.points[0].double()


def test_outer_points_bound_the_outline(stage: Any, points: torch.Tensor) -> None:
    rotation = stage.poses(20, 1).double()
    outer = points[outer_points(points)].expand(20, -1, -1)
    few, every = (outline(p, rotation, ViewSpec()).edges for p in (outer, points.expand(20, -1, -1)))
    few, every = (edges[:, 2:] - edges[:, :2] for edges in (few, every))
    torch.testing.assert_close(few, every, rtol=0.01, atol=0)


def test_the_outline_is_that_of_the_placement(stage: Any, points: torch.Tensor) -> None:
    rotation = stage.poses(5, 2).double()
    cloud = points.expand(5, -1, -1)
    found = outline(cloud, rotation, ViewSpec())
    rotated = cloud @ rotation.transpose(1, 2)
    uv = project(rotated, place(rotated, ViewSpec()), 1)[0]
    torch.testing.assert_close(found.edges, torch.cat([uv.amin(1), uv.amax(1)], 1))
    torch.testing.assert_close(
        (found.edges[:, 2:] - found.edges[:, :2]).amax(1), torch.full((5,), 0.8).double(), rtol=1e-5, atol=0
    )


def test_the_compiled_outline_is_that_of_tensors(stage: Any, points: torch.Tensor) -> None:
    rotation = stage.poses(40, 4)
    outer = points.float()[outer_points(points)].expand(40, -1, -1)
    found, twin = outline(outer, rotation, ViewSpec()), outline_in_tensors(outer, rotation, ViewSpec())
    torch.testing.assert_close(found.placement.offset, twin.placement.offset, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.placement.focal, twin.placement.focal, rtol=1e-5, atol=0)
    for name in ("offset_rate", "zoom_rate", "edges", "edges_rate"):
        torch.testing.assert_close(getattr(found, name), getattr(twin, name), rtol=1e-3, atol=1e-4)
    assert twin.edges_rate.std() > 0.1


def test_its_rates_are_the_derivatives(stage: Any, points: torch.Tensor) -> None:
    rotation = stage.poses(5, 3).double()
    cloud, view = points.expand(5, -1, -1), ViewSpec()
    at = outline(cloud, rotation, view)
    rotated = cloud @ rotation.transpose(1, 2)
    for axis in range(3):
        turn = exp_so3(STEP * torch.eye(3).double()[axis])
        there = outline(cloud, turn @ rotation, view)
        # the placement is a fixed point of three rounds: exact to 1e-3 pixels, its differences to some percent
        offset = (there.placement.offset - at.placement.offset)[:, :2] / STEP
        torch.testing.assert_close(at.offset_rate[..., axis], offset, rtol=0.05, atol=0.01)
        zoom = (there.placement.focal / at.placement.focal).log() / STEP
        torch.testing.assert_close(at.zoom_rate[:, axis], zoom, rtol=0.05, atol=0.01)
        edges = (there.edges - at.edges) / STEP
        torch.testing.assert_close(at.edges_rate[..., axis], edges, rtol=0.05, atol=0.01)
        fixed_aim = (rotated @ turn.T)[..., :2] + at.placement.offset[:, None, :2]
        moved = fixed_aim / ((rotated @ turn.T)[..., 2:] + view.distance)
        still = rotated[..., :2] + at.placement.offset[:, None, :2]
        image = (moved - still / (rotated[..., 2:] + view.distance)) / STEP
        torch.testing.assert_close(image_rate(rotated, at.placement.offset)[..., axis], image, rtol=1e-3, atol=1e-5)
