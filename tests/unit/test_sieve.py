"""The sieve keeps what the exact scores would choose, of every possible candidate something, and lets short lists pass."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.coarse import NAMED, MeshPoses, coarse_search
from pasr_perception.config import CoarseConfig
from pasr_perception.render.splat import SplatConfig
from pasr_perception.sieve import EACH, RIVALS, Sieve
from pasr_perception.templates import ChosenPoses, SparseCloud, build_templates, log_aspect, score_poses
from pasr_perception.types import Rivals

GRID, POSES, MESHES, DIM, LEADING = 14, 40, 4, 16, 8
CONFIG = CoarseConfig(exact_poses=12, top_k=5, per_mesh=2)


@dataclass(frozen=True)
class Space:
    """The toy's space, which knows leading channels as well."""

    whole: Any
    channels: torch.Tensor

    @property
    def rivals(self) -> Rivals:
        return self.whole.rivals

    @property
    def turns(self) -> tuple[tuple[int, ...], ...]:
        return self.whole.turns

    def sparse(self, mesh: int) -> SparseCloud:
        return self.whole.sparse(mesh)

    def rough(self, mesh: int) -> SparseCloud:
        cloud = self.whole.sparse(mesh)
        return dataclasses.replace(cloud, features=cloud.features @ self.channels)


@pytest.fixture(scope="module")
def space(toy) -> tuple[Space, torch.Tensor]:
    """Four meshes whose features lie mostly in a subspace, and the map [1, 1, D, g, g] of the third one at its pose 7."""
    splat = SplatConfig(GRID, 0.1, 8, 0.2)
    poses = toy.rotations(POSES)
    basis = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(3)))[0]
    loud = torch.cat([torch.ones(LEADING), torch.full((DIM - LEADING,), 0.3)])
    made = []
    for seed in range(MESHES):
        points, features = toy.cloud(seed, dim=DIM)
        made.append((points, torch.nn.functional.normalize(features * loud @ basis.T, dim=1)))
    templates = tuple(build_templates(p, f, poses, toy.view, splat) for p, f in made)
    maps = toy.shown(*made[2], poses[[7]], splat)[:, None]
    rivals = Rivals(torch.zeros(MESHES), torch.ones(MESHES))
    whole = toy.Space(tuple(p for p, _ in made), tuple(f for _, f in made), templates, ((0,),) * MESHES, rivals)
    return Space(whole, basis[:, :LEADING].contiguous()), maps


def everything(*_: object) -> list[list[MeshPoses]]:
    return [[MeshPoses(m, np.zeros(POSES, np.int64), np.arange(POSES)) for m in range(MESHES)]]


def test_the_search_behind_it_finds_what_it_finds_without(space) -> None:
    library, maps = space
    box = library.whole.made[2].outline[[7]]
    exact = coarse_search(maps, box, library, CONFIG)[0]
    sieve = Sieve(everything, library, library.channels, CONFIG)
    found = coarse_search(maps, box, library, CONFIG, shortlist=sieve)[0]
    assert found.mesh_index[0] == exact.mesh_index[0] == 2
    assert torch.equal(found.rotation[0], exact.rotation[0])
    assert found.value[0] == pytest.approx(float(exact.value[0]), abs=1e-6)


def test_it_keeps_so_many_poses_and_some_of_every_mesh(space) -> None:
    library, maps = space
    (kept,) = Sieve(everything, library, library.channels, CONFIG)(maps, torch.ones(1, 2), [None])
    assert [poses.mesh for poses in kept] == list(range(MESHES))
    assert min(len(poses.pose) for poses in kept) >= EACH
    assert CONFIG.exact_poses <= sum(len(poses.pose) for poses in kept) <= CONFIG.exact_poses + EACH * MESHES


def test_a_mesh_that_will_be_no_candidate_keeps_only_what_stands_out(space) -> None:
    """Of four meshes two may become the candidate: the others have no poses of their own."""
    library, maps = space
    config = dataclasses.replace(CONFIG, top_k=1, per_mesh=1, exact_poses=4)
    (kept,) = Sieve(everything, library, library.channels, config)(maps, torch.ones(1, 2), [None])
    assert 2 in [poses.mesh for poses in kept]
    assert len(kept) < MESHES
    assert 4 <= sum(len(poses.pose) for poses in kept) <= 4 + EACH * RIVALS


def test_what_is_far_behind_goes_but_for_the_best_of_each_mesh(space) -> None:
    library, maps = space
    assert MESHES <= NAMED
    near = dataclasses.replace(CONFIG, window=0.05)  # margins are similarities here
    whole, narrow = (
        Sieve(everything, library, library.channels, c)(maps, torch.ones(1, 2), [None])[0]
        for c in (dataclasses.replace(CONFIG, window=0), near)
    )
    assert [poses.mesh for poses in narrow] == [poses.mesh for poses in whole] == list(range(MESHES))
    assert MESHES <= sum(len(poses.pose) for poses in narrow) < sum(len(poses.pose) for poses in whole)
    assert 7 in narrow[2].pose
    for few, many in zip(narrow, whole, strict=True):
        assert set(few.pose) <= set(many.pose)


def test_it_keeps_those_that_fit_best_by_the_leading_channels(space) -> None:
    library, maps = space
    rough = [library.rough(m) for m in range(MESHES)]
    (kept,) = Sieve(everything, library, library.channels, CONFIG)(maps, torch.ones(1, 2), [None])
    cells = maps[0].flatten(2).transpose(1, 2) @ library.channels
    for poses in kept:
        (value,) = score_poses([ChosenPoses(cells, rough[poses.mesh], np.zeros(POSES, np.int64), np.arange(POSES))])
        value -= CONFIG.outline_weight * log_aspect(rough[poses.mesh].templates.outline).abs()
        worst = value[torch.from_numpy(poses.pose)].min()
        left_out = np.setdiff1d(np.arange(POSES), poses.pose)
        assert (value[torch.from_numpy(left_out)] <= worst + 1e-6).all()


def test_a_short_list_passes_as_it_is(space) -> None:
    library, maps = space
    short = [[MeshPoses(1, np.zeros(5, np.int64), np.arange(5))]]
    assert Sieve(lambda *_: short, library, library.channels, CONFIG)(maps, torch.ones(1, 2), [None]) == short
