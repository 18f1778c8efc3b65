"""The shortlist: what the exhaustive search finds is on it, and who may not be on it is not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import pasr_perception.bank as bank_module
import pasr_perception.shortlist as shortlist_module
from pasr_perception.bank import Bank, BankMesh, Look, bank_rows, cover_order, fit_basis
from pasr_perception.coarse import MeshPoses, coarse_search
from pasr_perception.config import BankConfig, CoarseConfig
from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.viewpoints import random_rotations
from pasr_perception.render.splat import SplatConfig, splat
from pasr_perception.shortlist import TEMPLATES_PER_BLOCK, Shortlister, runs
from pasr_perception.templates import build_templates
from pasr_perception.types import Rivals

GRID, DIM, POINTS, MESHES = 14, 24, 500, 6
SPLAT, VIEW = SplatConfig(GRID, 0.12, 8, 0.2), ViewSpec()
TURNS: list[tuple[int, ...]] = [(0, 1, 2, 3), (0, 1, 2, 3), (0,), (0,), (0,), (0, 1, 2, 3)]
POSES = [30, 30, 30, 30, 20, 20]


@pytest.fixture(scope="module")
def space(toy) -> Any:
    """Six ellipsoids whose features vary smoothly over the surface, like real ones."""
    points, clouds, made = [], [], []
    for seed in range(MESHES):
        rng = np.random.default_rng(seed)
        xyz = rng.normal(size=(POINTS, 3))
        xyz = xyz / np.linalg.norm(xyz, axis=1, keepdims=True) * rng.uniform(0.3, 0.9, 3)
        features = np.sin(xyz @ rng.normal(size=(3, DIM)) * 3 + rng.uniform(0, 6, DIM))
        points.append(torch.as_tensor(xyz, dtype=torch.float32))
        clouds.append(torch.nn.functional.normalize(torch.as_tensor(features, dtype=torch.float32), dim=1))
        poses = torch.as_tensor(random_rotations(POSES[seed], rng), dtype=torch.float32)
        made.append(build_templates(points[-1], clouds[-1], poses, VIEW, SPLAT))
    return toy.Space(
        tuple(points), tuple(clouds), tuple(made), tuple(TURNS), Rivals(torch.zeros(MESHES), torch.ones(MESHES))
    )


@pytest.fixture(scope="module")
def bank(space: Any) -> Bank:
    return made_bank(space)


def made_bank(space: Any) -> Bank:
    basis = fit_basis(list(zip(space.made, space.clouds, strict=True)), GRID, BankConfig(7, 16, 64))
    flat = torch.zeros(3), torch.ones(3)
    orders = [cover_order(t.rotation, turns) for t, turns in zip(space.made, TURNS, strict=True)]
    return Bank.of(
        basis,
        [
            BankMesh(bank_rows(t, f, GRID, basis)[order.long()], order, *flat)
            for t, f, order in zip(space.made, space.clouds, orders, strict=True)
        ],
    )


def shown(space: Any, mesh: int, pose: int, noise: float = 0.3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps [1, 4, D, g, g] of a noisy render of one template, and its box [1, 2]."""
    rotated = space.points[mesh] @ space.made[mesh].rotation[pose : pose + 1].transpose(1, 2)
    uv, depth = project(rotated, place(rotated, VIEW), GRID)
    image = splat(uv, depth, space.clouds[mesh], SPLAT)[0]
    image = image + noise * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed)) / DIM**0.5
    image = torch.nn.functional.normalize(image, dim=1)
    return torch.stack([torch.rot90(image, k, (2, 3)) for k in range(4)], 1), space.made[mesh].outline[pose][None]


def lister(bank: Bank, config: CoarseConfig, offset: torch.Tensor | None = None) -> Shortlister:
    return Shortlister(bank, TURNS, torch.zeros(MESHES) if offset is None else offset, config)


def test_the_search_finds_on_it_what_it_finds_without(space: Any, bank: Bank) -> None:
    config = CoarseConfig(shortlist_meshes=3, poses_each=4, poses_more=12)
    shortlist = lister(bank, config)
    for i in range(24):
        mesh = i % MESHES
        maps, box = shown(space, mesh, pose=i % POSES[mesh], seed=i)
        exact = coarse_search(maps, box, space, config)[0]
        found = coarse_search(maps, box, space, config, shortlist=shortlist)[0]
        assert found.mesh_index[0] == exact.mesh_index[0] == mesh
        assert torch.equal(found.rotation[0], exact.rotation[0])
        assert found.value[0] == pytest.approx(float(exact.value[0]), abs=1e-5)


def test_a_batch_is_its_crops_one_by_one(space: Any, bank: Bank) -> None:
    shortlist = lister(bank, CoarseConfig(shortlist_meshes=2, poses_each=4, poses_more=0))
    maps, box = zip(*(shown(space, mesh, 3) for mesh in (0, 4, 5)), strict=True)
    together = shortlist(torch.cat(maps), torch.cat(box), [None] * 3)
    for i in range(3):
        alone = shortlist(maps[i], box[i], [None])[0]
        assert [e.mesh for e in alone] == [e.mesh for e in together[i]]
        assert all(np.array_equal(a.pose, b.pose) for a, b in zip(alone, together[i], strict=True))


def test_everything_can_be_listed(space: Any, bank: Bank) -> None:
    maps, box = shown(space, 3, 0)
    listed = lister(bank, CoarseConfig(shortlist_meshes=99, poses_each=9999))(maps, box, [None])[0]
    assert sorted(e.mesh for e in listed) == list(range(MESHES))
    for entry in listed:
        every = {(turn, pose) for turn in TURNS[entry.mesh] for pose in range(POSES[entry.mesh])}
        assert set(zip(entry.turn.tolist(), entry.pose.tolist(), strict=True)) == every
        assert len(entry.pose) == len(every)


def test_poses_are_shared_out_by_how_far_they_stand_out(space: Any, bank: Bank) -> None:
    """Two of each of four meshes, and the twelve best of the others, which are the shown mesh's for the most part."""
    maps, box = shown(space, 0, 7)
    listed = lister(bank, CoarseConfig(shortlist_meshes=4, poses_each=2, poses_more=12))(maps, box, [None])[0]
    assert sum(len(e.pose) for e in listed) == 20
    assert len(listed) == 4
    assert min(len(e.pose) for e in listed) >= 2
    assert max(listed, key=lambda e: len(e.pose)).mesh == 0
    everything = lister(bank, CoarseConfig(shortlist_meshes=4, poses_each=9999))(maps, box, [None])[0]
    assert {e.mesh for e in listed} <= {e.mesh for e in everything}


def test_poses_far_behind_the_best_are_left_out(space: Any, bank: Bank) -> None:
    """All that stay are near, but for the best one of each mesh; margins are values here, whose spreads are 1."""
    maps, box = shown(space, 0, 7)
    config = CoarseConfig(shortlist_meshes=MESHES, poses_each=9999, window=0)
    whole, narrow = (
        lister(bank, dataclasses.replace(config, window=window))(maps, box, [None])[0] for window in (0, 0.2)
    )
    exact = coarse_search(maps, box, space, CoarseConfig(top_k=9999, per_mesh=9999))[0]
    assert [e.mesh for e in narrow] == [e.mesh for e in whole] == list(range(MESHES))
    best = float(exact.value.max())
    count = [len(e.pose) for e in narrow]
    assert MESHES < sum(count) < sum(len(e.pose) for e in whole) / 2
    assert max(range(MESHES), key=count.__getitem__) == 0
    near = (exact.value > best - 0.1) & (exact.mesh_index == 0)  # compression is not off by as much again
    assert near.any()
    listed = {tuple(space.made[0].rotation[p].flatten().tolist()) for e in narrow if e.mesh == 0 for p in e.pose}
    upright = near & (exact.turn == 0)
    assert {tuple(r.flatten().tolist()) for r in exact.rotation[upright]} <= listed


def test_a_restricted_crop_gets_the_poses_of_its_mesh(space: Any, bank: Bank) -> None:
    maps, box = shown(space, 3, 0)
    config = CoarseConfig(shortlist_meshes=3, poses_each=4, poses_more=12)
    listed = lister(bank, config)(maps, box, [1])[0]
    assert [(e.mesh, len(e.pose)) for e in listed] == [(1, 16)]


def test_what_attracts_everything_is_held_back(space: Any, bank: Bank) -> None:
    maps, box = shown(space, 2, 5)
    config = CoarseConfig(shortlist_meshes=1, poses_each=4, poses_more=0)

    def chosen(bank: Bank, offset: torch.Tensor | None = None) -> int:
        return lister(bank, config, offset)(maps, box, [None])[0][0].mesh

    assert chosen(bank) == 2
    loud = torch.zeros(MESHES)
    loud[2] = 2.0
    assert chosen(bank, loud) != 2
    assert chosen(dataclasses.replace(bank, attraction=loud[:, None].repeat(1, 3))) != 2
    wide = torch.ones(MESHES, 3)
    wide[2] = 50.0
    assert chosen(dataclasses.replace(bank, spread=wide)) != 2


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels that fit the tiny meshes of these tests."""
    looks = (Look(8, 24), Look(16, 48))
    monkeypatch.setattr(shortlist_module, "LOOKS", looks)
    monkeypatch.setattr(bank_module, "LOOKS", looks)


def test_levels_leave_the_mesh_that_is_shown(space: Any, short_looks: None) -> None:
    """Four of six meshes after the first level, two after the second: the one that all templates put first is among them."""
    bank = made_bank(space)
    narrow = lister(bank, CoarseConfig(first_meshes=4, second_meshes=2, shortlist_meshes=1, poses_more=0))
    wide = lister(bank, CoarseConfig(shortlist_meshes=1, poses_more=0))
    agreed = 0
    for i in range(48):
        maps, box = shown(space, i % MESHES, pose=i % 20, seed=i)
        (by_levels,), (by_all,) = narrow(maps, box, [None])[0], wide(maps, box, [None])[0]
        agreed += by_levels.mesh == by_all.mesh
    assert agreed >= 46


def test_what_a_level_drops_is_not_looked_at_again(space: Any, short_looks: None) -> None:
    bank = made_bank(space)
    maps, box = shown(space, 2, 5)
    loud = bank.attraction.clone()
    loud[2, 0] = 50.0  # the first level alone takes the shown mesh for one that attracts everything
    config = CoarseConfig(first_meshes=4, second_meshes=4, shortlist_meshes=4)
    assert 2 in [e.mesh for e in lister(bank, config)(maps, box, [None])[0]]
    listed = lister(dataclasses.replace(bank, attraction=loud), config)(maps, box, [None])[0]
    assert len(listed) == 4
    assert 2 not in [e.mesh for e in listed]


def test_crops_are_narrowed_down_each_for_itself(space: Any, short_looks: None) -> None:
    shortlist = lister(made_bank(space), CoarseConfig(first_meshes=3, second_meshes=2, shortlist_meshes=2))
    maps, box = zip(*(shown(space, mesh, 3) for mesh in (0, 4, 5)), strict=True)
    together = shortlist(torch.cat(maps), torch.cat(box), [None, 1, None])
    assert [e.mesh for e in together[1]] == [1]
    for i in (0, 2):
        assert [e.mesh for e in together[i]] == [e.mesh for e in shortlist(maps[i], box[i], [None])[0]]


def test_the_boxs_aspect_counts(space: Any, bank: Bank) -> None:
    """With nothing but the outline to go by, those poses are listed whose aspects are nearest to the box's."""
    blank = torch.zeros(1, 4, DIM, GRID, GRID)
    box = torch.tensor([[1.3, 1.0]])
    entry: MeshPoses = lister(bank, CoarseConfig(poses_each=8, poses_more=0))(blank, box, [2])[0][0]
    distance = (bank.rows.aspect[60:90] - torch.tensor(1.3).log()).abs()
    assert set(entry.pose.tolist()) == set(bank.pose[60:90][distance.argsort()[:8]].tolist())


def test_runs_cut_where_poses_or_turns_change() -> None:
    found = runs(POSES, TURNS)
    assert [(r.rows.start, r.rows.stop) for r in found] == [(0, 60), (60, 120), (120, 140), (140, 160)]


def test_runs_are_bounded() -> None:
    poses = TEMPLATES_PER_BLOCK // 3
    found = runs([poses] * 7, [(0,)] * 7)
    assert [(r.rows.stop - r.rows.start) // r.poses for r in found] == [3, 3, 1]
    assert found[-1].rows.stop == 7 * poses
    assert len(runs([2 * TEMPLATES_PER_BLOCK], [(0,)])) == 1
