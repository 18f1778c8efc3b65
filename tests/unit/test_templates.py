"""Templates against their oracle: render the feature map, take the masked mean cosine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.viewpoints import random_rotations
from pasr_perception.render.splat import SplatConfig, splat
from pasr_perception.templates import POSES_PER_BLOCK, Templates, build_templates, outline_mismatch, score_templates

GRID, DIM, POINTS = 14, 12, 400
VIEW = ViewSpec()


def unit(x: torch.Tensor, dim: int = -1) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=dim)


def cloud(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(POINTS, 3))
    points = points / np.linalg.norm(points, axis=1, keepdims=True) * [0.3, 0.6, 0.7]
    generator = torch.Generator().manual_seed(seed)
    return torch.as_tensor(points, dtype=torch.float32), unit(torch.randn(POINTS, DIM, generator=generator))


def rotations(count: int, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(random_rotations(count, np.random.default_rng(seed)), dtype=torch.float32)


def rendered_scores(maps, points, features, poses, config) -> torch.Tensor:
    rotated = points @ poses.transpose(1, 2)
    uv, depth = project(rotated, place(rotated, VIEW), config.size)
    image, mask = splat(uv, depth, features, config)  # [P, D, g, g], [P, g, g]
    cosine = torch.nn.functional.cosine_similarity(image[None], maps[:, None], dim=2)  # [B, P, g, g]
    return (cosine * mask).sum((2, 3)) / mask.sum((1, 2))


@pytest.mark.parametrize("config", [SplatConfig(GRID, 0.1), SplatConfig(GRID, 0.1, 4, 0.2), SplatConfig(GRID, 0.06, 8)])
def test_equals_render_and_cosine(config):
    points, features = cloud(1)
    poses = rotations(POSES_PER_BLOCK + 6)  # the 15th has a pixel that one point grazes: its weight is below the floor
    maps = unit(torch.randn(2, DIM, GRID, GRID, generator=torch.Generator().manual_seed(5)), 1)
    templates = build_templates(points, features, poses, VIEW, config)
    expected = rendered_scores(maps, points, features, poses, config)
    assert torch.allclose(score_templates(maps, features, templates), expected, atol=2e-6)


def test_a_rendered_map_scores_one_at_its_own_pose():
    config = SplatConfig(GRID, 0.1, 8, 0.2)
    points, features = cloud(1)
    poses = rotations(40)
    rotated = points @ poses[17:18].transpose(1, 2)
    uv, depth = project(rotated, place(rotated, VIEW), GRID)
    image, _ = splat(uv, depth, features, config)
    scores = score_templates(unit(image, 1), features, build_templates(points, features, poses, VIEW, config))[0]
    assert scores.argmax() == 17
    assert scores[17] == pytest.approx(1.0, abs=1e-5)


def test_outline_mismatch_is_the_log_ratio_of_aspects():
    mismatch = outline_mismatch(torch.tensor([[1.0, 1.0], [2.0, 1.0]]), torch.tensor([[10.0, 5.0]]))
    assert torch.allclose(mismatch, torch.tensor([[np.log(2.0), 0.0]], dtype=torch.float32), atol=1e-6)


def test_templates_survive_their_tensors():
    templates = build_templates(*cloud(1), rotations(5), VIEW, SplatConfig(GRID, 0.1))
    again = Templates.from_tensors(templates.to_tensors())
    assert all(torch.equal(a, b) for a, b in zip(vars(again).values(), vars(templates).values(), strict=True))
