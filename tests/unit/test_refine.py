"""Refinement: it climbs eq. 8, has no pole, and agrees with the coarse score where it starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pasr_perception.coarse import build_templates, score_templates
from pasr_perception.config import RefineConfig
from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.se3 import exp_so3
from pasr_perception.geometry.viewpoints import look_at, random_rotations
from pasr_perception.refine import Clouds, Hypotheses, RenderScene, refine, similarity
from pasr_perception.render.splat import SplatConfig, splat

GRID = 16
SCENE = RenderScene(ViewSpec(), SplatConfig(GRID, 0.12, 8, 0.3))


@pytest.fixture(scope="module")
def clouds() -> Clouds:
    """An ellipsoid whose features vary smoothly over the surface, as an encoder's do."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(700, 3))
    points = torch.as_tensor(points / np.linalg.norm(points, axis=1, keepdims=True), dtype=torch.float32)
    waves = torch.randn(3, 16, generator=torch.Generator().manual_seed(1)) * 2
    features = torch.nn.functional.normalize(torch.cos(points @ waves), dim=1)
    return Clouds((points * torch.tensor([0.4, 0.6, 0.9]))[None], features[None])


def rendered(clouds: Clouds, rotation: torch.Tensor) -> torch.Tensor:
    rotated = clouds.points[0] @ rotation.transpose(1, 2)
    uv, depth = project(rotated, place(rotated, SCENE.view), GRID)
    return torch.nn.functional.normalize(splat(uv, depth, clouds.features[0], SCENE.splat)[0], dim=1)


def angle_deg(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    cosine = ((a.transpose(1, 2) @ b).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))


def start_near(truth: torch.Tensor, degrees: float, seed: int) -> Hypotheses:
    axis = torch.randn(len(truth), 3, generator=torch.Generator().manual_seed(seed))
    tangent = torch.nn.functional.normalize(axis, dim=1) * np.radians(degrees)
    count = torch.arange(len(truth))
    return Hypotheses(exp_so3(tangent) @ truth, torch.zeros(len(truth), dtype=torch.long), count)


@pytest.mark.parametrize("poses", ["anywhere", "poles"])
def test_it_recovers_poses_ten_degrees_off(clouds, poses):
    if poses == "anywhere":
        rotations = random_rotations(8, np.random.default_rng(3))
    else:  # straight from above and below, where elevation and azimuth have their pole
        rotations = np.stack([look_at(sign * np.pi / 2, a) for sign in (-1, 1) for a in (0.0, 1.0, 2.0, 3.0)])
    truth = torch.as_tensor(rotations, dtype=torch.float32)
    start = start_near(truth, 10, 4)
    result = refine(start, clouds, rendered(clouds, truth), SCENE, RefineConfig())
    assert angle_deg(result.rotation, truth).median() < 2
    assert (result.similarity > 0.97).sum() >= 7


def test_it_never_ends_below_its_start(clouds):
    truth = torch.as_tensor(random_rotations(4, np.random.default_rng(5)), dtype=torch.float32)
    start = start_near(truth, 60, 6)
    maps = rendered(clouds, truth)
    before = similarity(start.rotation, start.cloud, start.crop, clouds, maps, SCENE)
    result = refine(start, clouds, maps, SCENE, RefineConfig(steps=5))
    assert (result.similarity >= before - 1e-6).all()
    again = similarity(result.rotation, start.cloud, start.crop, clouds, maps, SCENE)
    assert torch.allclose(again, result.similarity, atol=1e-5)


def test_similarity_is_the_coarse_score(clouds):
    poses = torch.as_tensor(random_rotations(6, np.random.default_rng(7)), dtype=torch.float32)
    maps = torch.nn.functional.normalize(
        torch.randn(2, 16, GRID, GRID, generator=torch.Generator().manual_seed(8)), dim=1
    )
    templates = build_templates(clouds.points[0], clouds.features[0], poses, SCENE.view, SCENE.splat)
    expected = score_templates(maps, clouds.features[0], templates)
    zero = torch.zeros(6, dtype=torch.long)
    for crop in (0, 1):
        assert torch.allclose(similarity(poses, zero, zero + crop, clouds, maps, SCENE), expected[crop], atol=1e-5)


def test_no_steps_change_nothing(clouds):
    truth = torch.as_tensor(random_rotations(2, np.random.default_rng(9)), dtype=torch.float32)
    start = start_near(truth, 10, 1)
    result = refine(start, clouds, rendered(clouds, truth), SCENE, RefineConfig(steps=0))
    assert torch.equal(result.rotation, start.rotation)
