"""Steps and rates: by hand, and against differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pasr_perception.refine import Pose
from pasr_perception.refine.outline import outline
from pasr_perception.refine.quadratic import (
    Quadratic,
    distance,
    edges_rate,
    largest,
    magnitude,
    moved_by,
    newton_step,
    pixels_rate,
)
from pasr_perception.refine.template import surface_pixels

STEP, SIZE = 1e-6, 20


def test_a_step_climbs_where_the_curvature_has_the_wrong_sign() -> None:
    at = Quadratic(torch.zeros(1), torch.tensor([[1.0, 1.0]]), torch.tensor([[[4.0, 0.0], [0.0, -2.0]]]))
    step = newton_step(at, torch.zeros(1), torch.ones(1))
    torch.testing.assert_close(step, torch.tensor([[0.25, 0.5]]))
    short = newton_step(at, torch.zeros(1), torch.full((1,), 0.1))
    torch.testing.assert_close(short, 0.1 * step / step.norm())
    damped = newton_step(at, torch.ones(1), torch.ones(1))
    torch.testing.assert_close(damped, torch.tensor([[1 / 8, 1 / 6]]))


@pytest.mark.parametrize("spread", [1.0, 3.0, 6.0])  # decades between a matrix' eigenvalues
def test_magnitudes_are_those_of_the_decomposition(spread: float) -> None:
    random = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(50, 6, 6, generator=random))[0]
    values = 10 ** (-spread * torch.rand(50, 6, generator=random)) * torch.randn(50, 6, generator=random).sign()
    matrix = (axes * values[:, None]) @ axes.transpose(1, 2)
    found, expected = magnitude(matrix), (axes * values.abs()[:, None]) @ axes.transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    torch.testing.assert_close(largest(found), values.abs().amax(1), rtol=5e-3, atol=0)
    assert not magnitude(torch.zeros(1, 6, 6)).any()


def test_distances_are_over_radians_crop_sizes_and_log_scale() -> None:
    here = Pose.by_outline(torch.eye(3)[None])
    there = moved_by(here, torch.tensor([[0.3, 0.0, 0.0, 0.0, 0.4, 1.2]]))
    assert distance(here, there).item() == pytest.approx(1.3, rel=1e-5)


@pytest.mark.parametrize("unknowns", [3, 5, 6])
def test_rates_of_pixels_and_edges_agree_with_differences(stage: Any, unknowns: int) -> None:
    rotation = stage.poses(4, 1).double()
    cloud, view = stage.clouds.points[0].double().expand(4, -1, -1), stage.scene.view
    pose = Pose(rotation, torch.tensor([[0.03, -0.02]]).double().expand(4, 2), torch.full((4,), 0.1).double())

    def pixels(p: Pose) -> torch.Tensor:
        return surface_pixels(p, cloud[:, :50], outline(cloud, p.rotation, view), SIZE)

    def edges(p: Pose) -> torch.Tensor:
        return p.move(outline(cloud, p.rotation, view).edges.unflatten(1, (2, 2)), 1).flatten(1)

    at = outline(cloud, rotation, view)
    by_pixel = pixels_rate(pose, cloud[:, :50], at, SIZE, unknowns)
    by_edge = edges_rate(pose, at, unknowns)
    assert by_pixel.shape == (4, 50, 2, unknowns)
    for k in range(unknowns):
        step = STEP * torch.eye(unknowns).double()[k].expand(4, -1)
        after, before = moved_by(pose, step), moved_by(pose, -step)
        # the placement is a fixed point of three rounds: its differences are exact to some percent
        torch.testing.assert_close(
            by_pixel[..., k], (pixels(after) - pixels(before)) / (2 * STEP), rtol=0.05, atol=0.01 * SIZE
        )
        torch.testing.assert_close(by_edge[..., k], (edges(after) - edges(before)) / (2 * STEP), rtol=0.05, atol=0.01)
