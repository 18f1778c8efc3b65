"""Coarse search against its oracle: render the feature map, take the masked mean cosine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pasr_perception.coarse import (
    POSES_PER_BLOCK,
    Templates,
    build_templates,
    coarse_search,
    distinct_best,
    outline_mismatch,
    quarter_turns,
    score_templates,
    turn_maps,
)
from pasr_perception.config import CoarseConfig
from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.viewpoints import random_rotations, roll
from pasr_perception.render.splat import SplatConfig, splat

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


@dataclass(frozen=True)
class Space:
    features: tuple[torch.Tensor, ...]
    templates: tuple[Templates, ...]
    turns: tuple[tuple[int, ...], ...]
    attraction: torch.Tensor


def render_map(points, features, rotations, config) -> torch.Tensor:
    rotated = points @ rotations.transpose(1, 2)
    uv, depth = project(rotated, place(rotated, VIEW), config.size)
    return unit(splat(uv, depth, features, config)[0], 1)


@pytest.fixture(scope="module")
def space() -> tuple[Space, torch.Tensor, SplatConfig]:
    """Three upright meshes and the maps [2, 1, D, g, g] of the second one at its poses 5 and 9."""
    config = SplatConfig(GRID, 0.1, 8, 0.2)
    poses = rotations(30)
    made = [cloud(seed) for seed in (1, 2, 3)]
    templates = tuple(build_templates(p, f, poses, VIEW, config) for p, f in made)
    maps = render_map(*made[1], poses[[5, 9]], config)
    return Space(tuple(f for _, f in made), templates, ((0,),) * 3, torch.zeros(3)), maps[:, None], config


def test_search_finds_the_mesh_and_pose_it_was_shown(space):
    library, maps, _ = space
    size = library.templates[1].outline[[5, 9]]
    found = coarse_search(maps, size, library, CoarseConfig(top_k=4, per_mesh=2, crops_per_block=1))
    for candidates, pose in zip(found, (5, 9), strict=True):
        assert candidates.mesh_index[0] == 1
        assert torch.equal(candidates.rotation[0], library.templates[1].rotation[pose])
        assert candidates.similarity[0] == pytest.approx(1.0, abs=1e-4)
        assert candidates.value[0] == pytest.approx(float(candidates.similarity[0]), abs=1e-4)  # the box fits exactly
        assert len(candidates.mesh_index) == 4
        assert (candidates.mesh_index == 1).sum() <= 2
        assert (candidates.turn == 0).all()


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_turned_object_is_found_in_the_crop_turned_back(space, quarter):
    library, _, config = space
    points, features = cloud(2)
    pose = library.templates[1].rotation[5]
    shown = quarter_turns(torch.tensor([quarter])) @ pose
    crop = render_map(points, features, shown, config)  # stands for the image: a turned image is a turned map
    maps = turn_maps(lambda image: image, crop, range(4))
    assert torch.allclose(maps[:, quarter], render_map(points, features, pose[None], config), atol=1e-4)
    box = library.templates[1].outline[5:6]
    box = box.flip(1) if quarter % 2 else box
    everywhere = dataclasses.replace(library, turns=((0,), (0, 1, 2, 3), (0, 1, 2, 3)))
    best = coarse_search(maps, box, everywhere, CoarseConfig())[0]
    assert (int(best.mesh_index[0]), int(best.turn[0])) == (1, quarter)
    assert torch.allclose(best.rotation[0], shown[0], atol=1e-6)
    assert best.value[0] == pytest.approx(1.0, abs=1e-3)
    assert (best.turn[best.mesh_index == 0] == 0).all()  # an upright mesh is not looked for in turned crops


def test_turn_maps_turns_anticlockwise_by_each_number_of_quarters():
    image = torch.arange(4.0).reshape(1, 1, 2, 2)
    turned = turn_maps(lambda x: x, image, (0, 1, 3))[0, :, 0]
    assert turned.tolist() == [[[0, 1], [2, 3]], [[1, 3], [0, 2]], [[2, 0], [3, 1]]]


def test_distinct_best_leaves_out_neighbours_of_what_it_has():
    angles = [0.0, 0.2, 1.0, 1.1, 3.0]
    rotation = torch.tensor(np.stack([roll(a) for a in angles]), dtype=torch.float32)
    value = torch.tensor([0.5, 0.6, 0.9, 0.8, 0.1])
    assert distinct_best(value, rotation, 2).tolist() == [2, 1]
    assert distinct_best(value, rotation, 9).tolist() == [2, 1, 4]
    assert value.tolist() == pytest.approx([0.5, 0.6, 0.9, 0.8, 0.1])  # the caller's values are left alone


def test_search_can_be_restricted_to_one_mesh_per_crop(space):
    library, maps, _ = space
    free = coarse_search(maps, torch.ones(2, 2), library, CoarseConfig(top_k=6))
    found = coarse_search(maps, torch.ones(2, 2), library, CoarseConfig(top_k=6), only=[0, None])
    assert found[0].mesh_index.tolist() == [0] * 6  # all hypotheses are of that mesh
    assert torch.equal(found[1].mesh_index, free[1].mesh_index)
    assert torch.equal(found[1].rotation, free[1].rotation)
    assert 1 in found[1].mesh_index.tolist()


def test_attraction_is_subtracted(space):
    library, maps, _ = space
    biased = dataclasses.replace(library, attraction=torch.tensor([0.0, 5.0, 0.0]))
    assert coarse_search(maps, torch.ones(2, 2), biased, CoarseConfig())[0].mesh_index[0] != 1


def test_only_must_match_the_crops(space):
    library, maps, _ = space
    with pytest.raises(ValueError, match="only: expected one entry per crop"):
        coarse_search(maps, torch.ones(2, 2), library, CoarseConfig(), only=[0])


def test_outline_mismatch_is_the_log_ratio_of_aspects():
    mismatch = outline_mismatch(torch.tensor([[1.0, 1.0], [2.0, 1.0]]), torch.tensor([[10.0, 5.0]]))
    assert torch.allclose(mismatch, torch.tensor([[np.log(2.0), 0.0]], dtype=torch.float32), atol=1e-6)


def test_templates_survive_their_tensors(space):
    templates = space[0].templates[0]
    again = Templates.from_tensors(templates.to_tensors())
    assert all(torch.equal(a, b) for a, b in zip(vars(again).values(), vars(templates).values(), strict=True))
