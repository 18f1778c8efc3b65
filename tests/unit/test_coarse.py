"""Coarse search: what is found, in which order, and that all ways of scoring agree."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import pasr_perception.coarse as coarse_module
from pasr_perception.coarse import (
    NAMED,
    MeshPoses,
    Task,
    coarse_search,
    distinct_best,
    exact_scores,
    quarter_turns,
    turn_maps,
    whole_scores,
)
from pasr_perception.config import CoarseConfig
from pasr_perception.encoders.centring import centred_maps
from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.geometry.viewpoints import roll
from pasr_perception.refine.problem import Clouds, Pose, RenderScene
from pasr_perception.refine.similarity import render
from pasr_perception.render.splat import SplatConfig
from pasr_perception.templates import (
    ChosenPoses,
    SparseCloud,
    Templates,
    build_templates,
    pixel_runs,
    score_poses,
    score_templates,
)
from pasr_perception.types import Crop, Detection, Rivals

GRID = 14
NOBODY = Rivals(torch.zeros(3), torch.ones(3))


@pytest.fixture(scope="module")
def space(toy) -> tuple[Any, torch.Tensor, SplatConfig]:
    """Three upright meshes and the maps [2, 1, D, g, g] of the second one at its poses 5 and 9."""
    config = SplatConfig(GRID, 0.1, 8, 0.2)
    poses = toy.rotations(30)
    made = [toy.cloud(seed) for seed in (1, 2, 3)]
    templates = tuple(build_templates(p, f, poses, toy.view, config) for p, f in made)
    maps = toy.shown(*made[1], poses[[5, 9]], config)
    return (
        toy.Space(tuple(p for p, _ in made), tuple(f for _, f in made), templates, ((0,),) * 3, NOBODY),
        maps[:, None],
        config,
    )


def test_search_finds_the_mesh_and_pose_it_was_shown(space):
    library, maps, _ = space
    size = library.made[1].outline[[5, 9]]
    found = coarse_search(maps, size, library, CoarseConfig(top_k=4, per_mesh=2))
    for candidates, pose in zip(found, (5, 9), strict=True):
        assert candidates.mesh_index[0] == 1
        assert torch.equal(candidates.rotation[0], library.made[1].rotation[pose])
        assert candidates.similarity[0] == pytest.approx(1.0, abs=1e-4)
        assert candidates.value[0] == pytest.approx(float(candidates.similarity[0]), abs=1e-4)  # the box fits exactly
        assert len(candidates.mesh_index) == 4
        assert (candidates.mesh_index == 1).sum() <= 2
        assert (candidates.turn == 0).all()


def test_of_two_meshes_of_one_shape_the_one_in_the_crops_colours_is_found(space):
    library, maps, config = space
    chroma = 60 * torch.randn(3, len(library.points[1]), 2, generator=torch.Generator().manual_seed(0))
    same = dataclasses.replace(
        library, points=(library.points[1],) * 3, clouds=(library.clouds[1],) * 3, made=(library.made[1],) * 3
    )
    coloured = [dataclasses.replace(same.sparse(i), chroma=chroma[i]) for i in range(3)]

    class Coloured(type(same)):
        def sparse(self, mesh: int) -> SparseCloud:
            return coloured[mesh]

    painted = Coloured(*(getattr(same, f.name) for f in dataclasses.fields(same)))
    for mesh in range(3):
        rendered = render(
            Pose.by_outline(library.made[1].rotation[5:6]),
            torch.zeros(1, dtype=torch.long),
            Clouds(library.points[1][None], chroma[mesh][None]),
            RenderScene(ViewSpec(), config),
        )
        seen = torch.zeros(1, 1, GRID * GRID, 2)
        seen[0, 0, rendered.cell] = rendered.feature
        found = coarse_search(maps[:1], torch.ones(1, 2), painted, CoarseConfig(), chroma=seen)[0]
        assert found.mesh_index[0] == mesh
        assert torch.equal(found.rotation[0], library.made[1].rotation[5])
        assert found.agreement[0] > 0.7
        without = CoarseConfig(colour_weight=0.0, outline_weight=0.0)
        unasked = coarse_search(maps[:1], torch.ones(1, 2), painted, without, chroma=seen)[0]
        assert torch.equal(unasked.value, unasked.similarity)
        assert len(set(unasked.similarity[:3].tolist())) == 1  # features alone cannot tell them apart


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_turned_object_is_found_in_the_crop_turned_back(toy, space, quarter):
    library, _, config = space
    points, features = toy.cloud(2)
    pose = library.made[1].rotation[5]
    shown = quarter_turns(torch.tensor([quarter])) @ pose
    crop = toy.shown(points, features, shown, config)  # stands for the image: a turned image is a turned map
    maps = torch.stack([torch.rot90(crop, k, (2, 3)) for k in range(4)], 1)
    assert torch.allclose(maps[:, quarter], toy.shown(points, features, pose[None], config), atol=1e-4)
    box = library.made[1].outline[5:6]
    box = box.flip(1) if quarter % 2 else box
    everywhere = dataclasses.replace(library, turns=((0,), (0, 1, 2, 3), (0, 1, 2, 3)))
    best = coarse_search(maps, box, everywhere, CoarseConfig())[0]
    assert (int(best.mesh_index[0]), int(best.turn[0])) == (1, quarter)
    assert torch.allclose(best.rotation[0], shown[0], atol=1e-6)
    assert best.value[0] == pytest.approx(1.0, abs=1e-3)
    assert (best.turn[best.mesh_index == 0] == 0).all()  # an upright mesh is not looked for in turned crops


class Colours:
    """Encodes an image as itself."""

    name, dim, image_size, grid, fingerprint = "colours", 3, 2, 2, ""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images.float()


def test_turn_maps_turns_anticlockwise_by_each_number_of_quarters():
    image = np.random.default_rng(0).integers(0, 255, (2, 2, 3), dtype=np.uint8)
    crop = Crop(image, np.eye(3), np.eye(3), np.array([0.0, 0.0, 2.0, 1.0]), np.zeros(4, bool), Detection(np.ones(4)))
    turned = turn_maps(Colours(), [crop] * 3, (0, 1, 3), batch_size=2)
    pixels = torch.as_tensor(image).permute(2, 0, 1)[None].float()
    inside = torch.tensor([[1.0, 1.0], [0.0, 0.0]])[None]
    expected = centred_maps(
        torch.stack([torch.rot90(pixels, k, (2, 3)) for k in (0, 1, 3)], 1),
        torch.stack([torch.rot90(inside, k, (1, 2)) for k in (0, 1, 3)], 1),
    )
    assert torch.allclose(turned, expected.expand(3, -1, -1, -1, -1), atol=1e-6)
    assert torch.allclose(turned[0, 1, :, 0, 0], turned[0, 0, :, 0, 1])  # what was right above is now left above


def test_chosen_poses_score_as_they_do_among_all(space):
    """By the CPU's loop, by the rendered maps that CUDA takes, and out of all of the mesh's poses."""
    library, maps, _ = space
    templates, features = library.made[1], library.clouds[1]
    cloud = library.sparse(1)
    assert cloud.runs is None
    pose = np.array([29, 3, 0, 17])  # the last template too, whose end no other begins
    every = score_templates(maps[:, 0], features, templates)
    cells = torch.stack([maps[1, 0], maps[0, 0]]).flatten(2).transpose(1, 2).contiguous()
    mixed = torch.where(torch.tensor([True, False, True, False]), every[0, pose], every[1, pose])
    turn = np.array([1, 0, 1, 0])
    chosen = ChosenPoses(cells, cloud, turn, pose)
    other = ChosenPoses(cells[[1, 0]], library.sparse(2), turn[:1], pose[:1])
    assert torch.allclose(torch.cat(score_poses([chosen])), mixed, atol=1e-6)
    again, alone = score_poses([other, chosen])[1], score_poses([other])[0]
    assert torch.equal(again, score_poses([chosen])[0])
    assert torch.equal(alone, score_poses([chosen, other])[1])
    rendered = dataclasses.replace(cloud, runs=pixel_runs(templates, len(features)))
    assert torch.allclose(torch.cat(score_poses([dataclasses.replace(chosen, cloud=rendered)])), mixed, atol=1e-6)
    assert torch.allclose(whole_scores(Task(cells, cloud, MeshPoses(1, turn, pose))), mixed, atol=1e-6)


def test_many_poses_of_a_mesh_are_scored_with_all_of_it(space, monkeypatch):
    library, maps, _ = space
    cells = maps[0].flatten(2).transpose(1, 2).contiguous()
    every = score_templates(maps[:, 0], library.clouds[1], library.made[1])
    wholes = []
    monkeypatch.setattr(coarse_module, "whole_scores", lambda task: wholes.append(task) or whole_scores(task))
    monkeypatch.setattr(coarse_module, "WHOLE_MESH_FROM_ON_CPU", 31)
    for times in (1, 3):
        task = Task(
            cells, library.sparse(1), MeshPoses(1, np.zeros(30 * times, np.int64), np.tile(np.arange(30), times))
        )
        few = Task(cells, library.sparse(1), MeshPoses(1, np.zeros(2, np.int64), np.array([4, 2])))
        found = exact_scores([few, task, few])
        assert torch.allclose(found[1], every[0].repeat(times), atol=1e-6)
        assert torch.allclose(torch.stack([found[0], found[2]]), every[0, [4, 2]].expand(2, 2), atol=1e-6)
        assert len(wholes) == (times == 3)


def test_runs_by_hand():
    """Two poses: pixel 3 by points 0 and 1, pixel 4 by point 1; then pixel 4 by points 0 and 2."""
    pair = torch.tensor([3 * 5 + 0, 3 * 5 + 1, 4 * 5 + 1, 4 * 5 + 0, 4 * 5 + 2], dtype=torch.int32)
    start = torch.tensor([0, 3], dtype=torch.int32)
    runs = pixel_runs(Templates(torch.eye(3).repeat(2, 1, 1), start, pair, torch.ones(5), torch.ones(2, 2)), points=5)
    assert runs.cell.tolist() == [3, 4, 4]
    assert runs.start.tolist() == [0, 2, 3]
    assert (runs.begin, runs.pair) == ((0, 2, 3), (0, 3, 5))


def test_only_what_is_on_the_shortlist_is_found(space):
    library, maps, _ = space
    listed = [
        [MeshPoses(2, np.array([0, 0]), np.array([4, 8]))],
        [MeshPoses(0, np.array([0]), np.array([1]))],
    ]
    found = coarse_search(maps, torch.ones(2, 2), library, CoarseConfig(), shortlist=lambda *_: listed)
    assert [c.mesh_index.tolist() for c in found] == [[2, 2], [0]]
    expected = score_templates(maps[:1, 0], library.clouds[2], library.made[2])[0, [4, 8]]
    assert sorted(found[0].similarity.tolist()) == pytest.approx(sorted(expected.tolist()), abs=1e-6)


def test_candidates_name_ten_meshes_or_fill_half_of_their_list_with_them():
    """Twelve meshes of five poses each, a whole turn apart; the poses of the first are far ahead."""
    mesh, rotation = np.repeat(np.arange(12), 5), np.stack([roll(a) for a in [0, 1, 2, 3, 4] * 12])
    margin = np.arange(60, 0, -1.0)
    chosen = distinct_best(margin, mesh, rotation, 20, 5)
    assert len(chosen) == 20
    assert np.all(np.diff(margin[chosen]) < 0)
    assert set(mesh[chosen]) == set(range(NAMED))
    assert np.bincount(mesh[chosen]).tolist() == [5, 5, 3, 1, 1, 1, 1, 1, 1, 1]
    assert np.bincount(mesh[distinct_best(margin, mesh, rotation, 6, 5)]).tolist() == [4, 1, 1]
    assert mesh[distinct_best(margin, mesh, rotation, 1, 5)].tolist() == [0]


def test_distinct_best_leaves_out_neighbours_of_what_it_has():
    angles = [0.0, 0.2, 1.0, 1.1, 3.0]
    rotation = np.stack([roll(a) for a in angles])
    margin = np.array([0.5, 0.6, 0.9, 0.8, 0.1])
    one = np.zeros(5, int)
    assert distinct_best(margin, one, rotation, 2, 9).tolist() == [2, 1]
    assert distinct_best(margin, one, rotation, 9, 9).tolist() == [2, 1, 4]
    assert distinct_best(margin, one, rotation, 9, 1).tolist() == [2]
    two = np.array([0, 0, 0, 1, 1])  # neighbours of another mesh do not count
    assert distinct_best(margin, two, rotation, 9, 9).tolist() == [2, 3, 1, 4]
    assert distinct_best(margin, two, rotation, 9, 1).tolist() == [2, 3]


def test_search_can_be_restricted_to_one_mesh_per_crop(space):
    library, maps, _ = space
    free = coarse_search(maps, torch.ones(2, 2), library, CoarseConfig(top_k=6))
    found = coarse_search(maps, torch.ones(2, 2), library, CoarseConfig(top_k=6), only=[0, None])
    assert found[0].mesh_index.tolist() == [0] * 6  # all hypotheses are of that mesh
    assert torch.equal(found[1].mesh_index, free[1].mesh_index)
    assert torch.equal(found[1].rotation, free[1].rotation)
    assert 1 in found[1].mesh_index.tolist()


def test_meshes_compete_by_how_far_they_stand_out(space):
    library, maps, _ = space
    offset = dataclasses.replace(library, rivals=Rivals(torch.tensor([0.0, 5.0, 0.0]), torch.ones(3)))
    assert coarse_search(maps, torch.ones(2, 2), offset, CoarseConfig())[0].mesh_index[0] != 1
    free = coarse_search(maps, torch.ones(2, 2), library, CoarseConfig(outline_weight=0.0))[0]
    second = int(free.mesh_index[free.mesh_index != 1][0])
    ratio = float(free.value[0] / free.value[free.mesh_index == second][0])
    narrow = torch.ones(3)
    for share, first in ((1.1, second), (0.9, 1)):  # of the spread at which the second mesh draws level
        narrow[second] = 1 / (share * ratio)
        found = coarse_search(
            maps,
            torch.ones(2, 2),
            dataclasses.replace(library, rivals=Rivals(torch.zeros(3), narrow)),
            CoarseConfig(outline_weight=0.0),
        )
        assert found[0].mesh_index[0] == first


def test_only_must_match_the_crops(space):
    library, maps, _ = space
    with pytest.raises(ValueError, match="only: expected one entry per crop"):
        coarse_search(maps, torch.ones(2, 2), library, CoarseConfig(), only=[0])
