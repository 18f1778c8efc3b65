"""Eq. 8 as refinement computes it is eq. 8 as the search computes it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.kernels import placement
from pasr_perception.refine import Clouds, Pose, RenderScene, similarity, splat_margin
from pasr_perception.refine.similarity import projected, render
from pasr_perception.render.splat import SplatConfig
from pasr_perception.templates import build_templates, score_templates


def test_similarity_is_the_coarse_score(stage: Any) -> None:
    poses, scene, clouds = stage.poses(6, 7), stage.scene, stage.clouds
    noise = torch.randn(2, 16, scene.splat.size, scene.splat.size, generator=torch.Generator().manual_seed(8))
    maps = torch.nn.functional.normalize(noise, dim=1)
    templates = build_templates(clouds.points[0], clouds.features[0], poses, scene.view, scene.splat)
    expected = score_templates(maps, clouds.features[0], templates)
    zero = torch.zeros(6, dtype=torch.long)
    for crop in (0, 1):
        assert torch.allclose(similarity(poses, zero, zero + crop, clouds, maps, scene), expected[crop], atol=1e-5)


def test_the_loop_of_the_cpu_projects_as_what_gradients_go_through(stage: Any) -> None:
    random = torch.Generator().manual_seed(3)
    shift, log_scale = 0.1 * torch.randn(5, 2, generator=random), 0.2 * torch.randn(5, generator=random)
    turned = stage.poses(5, 2).transpose(1, 2)  # of another layout in memory
    pose = Pose(turned.requires_grad_(), shift, log_scale)
    more = stage.clouds.points * torch.tensor([0.5, 1.5, 1.0])
    clouds = Clouds(torch.cat([stage.clouds.points, more]), stage.clouds.features.repeat(2, 1, 1))
    cloud = torch.tensor([0, 1, 1, 0, 1])
    kinds = len(placement.project_one.signatures)
    with torch.no_grad():
        uv, depth = projected(pose, cloud, clouds, stage.scene)
    assert len(placement.project_one.signatures) <= max(kinds, 1)
    twin_uv, twin_depth = projected(pose, cloud, clouds, stage.scene)
    assert twin_uv.requires_grad
    torch.testing.assert_close(uv, twin_uv.detach(), atol=1e-4, rtol=0)
    torch.testing.assert_close(depth, twin_depth.detach(), atol=1e-5, rtol=0)


def test_the_margin_is_how_far_a_splat_reaches_beyond_its_points() -> None:
    """A dense disc of points that fills 0.8 of the image covers an area larger by the margin along each axis."""
    scene = RenderScene(ViewSpec(fill=0.8), SplatConfig(64, 0.05, 8))
    generator = torch.Generator().manual_seed(0)
    angle, radius = 2 * torch.pi * torch.rand(20000, generator=generator), torch.rand(20000, generator=generator).sqrt()
    points = torch.stack([radius * angle.cos(), radius * angle.sin(), torch.zeros(20000)], 1)
    clouds = Clouds(points[None], torch.ones(1, 20000, 2))
    rendered = render(Pose.by_outline(torch.eye(3)[None]), torch.zeros(1, dtype=torch.long), clouds, scene)
    across = math.sqrt(float(rendered.area(1)[0]) * 4 / math.pi)
    assert math.log(across / (0.8 * 64)) == pytest.approx(splat_margin(scene), rel=0.1)
