"""Templates against their oracle: render the feature map, take the masked mean cosine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pasr_perception.render.splat import SplatConfig
from pasr_perception.templates import (
    POSES_PER_BLOCK,
    Templates,
    build_templates,
    outline_mismatch,
    score_many,
    score_templates,
)

GRID, DIM = 14, 12


def rendered_scores(toy, maps, points, features, poses, config) -> torch.Tensor:
    image, mask = toy.render(points, features, poses, config)  # [P, D, g, g], [P, g, g]
    cosine = torch.nn.functional.cosine_similarity(image[None], maps[:, None], dim=2)  # [B, P, g, g]
    return (cosine * mask).sum((2, 3)) / mask.sum((1, 2))


@pytest.mark.parametrize("config", [SplatConfig(GRID, 0.1), SplatConfig(GRID, 0.1, 4, 0.2), SplatConfig(GRID, 0.06, 8)])
def test_equals_render_and_cosine(toy, config):
    points, features = toy.cloud(1)
    poses = toy.rotations(
        POSES_PER_BLOCK + 6
    )  # the 15th has a pixel that one point grazes: its weight is below the floor
    maps = torch.randn(2, DIM, GRID, GRID, generator=torch.Generator().manual_seed(5))
    maps = torch.nn.functional.normalize(maps, dim=1)
    templates = build_templates(points, features, poses, toy.view, config)
    expected = rendered_scores(toy, maps, points, features, poses, config)
    assert torch.allclose(score_templates(maps, features, templates), expected, atol=2e-6)
    assert torch.allclose(score_many(maps, features, templates), expected, atol=2e-6)


def test_a_rendered_map_scores_one_at_its_own_pose(toy):
    config = SplatConfig(GRID, 0.1, 8, 0.2)
    points, features = toy.cloud(1)
    poses = toy.rotations(40)
    shown = toy.shown(points, features, poses[17:18], config)
    scores = score_templates(shown, features, build_templates(points, features, poses, toy.view, config))[0]
    assert scores.argmax() == 17
    assert scores[17] == pytest.approx(1.0, abs=1e-5)


def test_outline_mismatch_is_the_log_ratio_of_aspects():
    mismatch = outline_mismatch(torch.tensor([[1.0, 1.0], [2.0, 1.0]]), torch.tensor([[10.0, 5.0]]))
    assert torch.allclose(mismatch, torch.tensor([[np.log(2.0), 0.0]], dtype=torch.float32), atol=1e-6)


def test_templates_survive_their_tensors(toy):
    templates = build_templates(*toy.cloud(1), toy.rotations(5), toy.view, SplatConfig(GRID, 0.1))
    again = Templates.from_tensors(templates.to_tensors())
    assert all(torch.equal(a, b) for a, b in zip(vars(again).values(), vars(templates).values(), strict=True))
