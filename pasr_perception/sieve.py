"""Sieve: of a shortlist's poses, those that are worth all channels, by a look at the leading ones.

Most of what tells poses apart lies in the library's leading channels (`bank.Basis`), and eq. 8 of a few channels costs as many
times less. So a shortlist may be long, and the exact scores few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from pasr_perception.coarse import NAMED, MeshPoses, Scored, Shortlist, Task
from pasr_perception.config import CoarseConfig
from pasr_perception.templates import SparseCloud, log_aspect, score_poses
from pasr_perception.types import Rivals

EACH = 2  # poses that stay of every mesh that may become a candidate: other channels matter more to some
RIVALS = 2  # times as many meshes as there will be candidates may become one: colours are compared later
LISTED = 20  # meshes at most that may


class RoughSpace(Protocol):
    """What the sieve reads of a library."""

    @property
    def rivals(self) -> Rivals: ...

    def rough(self, mesh: int) -> SparseCloud:
        """A mesh with the leading channels of its features only."""


class Sieve:
    """Called like the shortlist that it stands behind."""

    def __init__(self, shortlist: Shortlist, space: RoughSpace, channels: torch.Tensor, config: CoarseConfig) -> None:
        """`channels` [D, R] are orthonormal, those that `RoughSpace.rough` keeps."""
        self._shortlist, self._space, self._channels, self._config = shortlist, space, channels, config

    def __call__(self, maps: torch.Tensor, box_size: torch.Tensor, only: Sequence[int | None]) -> list[list[MeshPoses]]:
        """For every crop the meshes and poses worth an exact look; maps [B, T, D, g, g], box_size [B, 2]."""
        listed = self._shortlist(maps, box_size, only)
        cells = maps.flatten(3).transpose(2, 3) @ self._channels  # [B, T, g*g, R]
        aspect = log_aspect(box_size)
        return [self._kept(*each) for each in zip(cells, aspect, listed, strict=True)]

    def _kept(self, cells: torch.Tensor, aspect: torch.Tensor, listed: list[MeshPoses]) -> list[MeshPoses]:
        """What stays of one crop's list: cells [T, g*g, R], log aspect [] of its box."""
        if sum(len(poses.pose) for poses in listed) <= self._config.exact_poses:
            return listed
        tasks = [Task(cells, self._space.rough(poses.mesh), poses) for poses in listed]
        scored = Scored.of(list(zip(tasks, score_poses([task.chosen for task in tasks]), strict=True)))
        value = scored.value(aspect, self._config, self._space.rivals).cpu()
        margin = self._space.rivals.margin(value, scored.mesh).numpy()
        least = np.partition(margin, -self._config.exact_poses)[-self._config.exact_poses]
        count = np.array([len(poses.pose) for poses in listed])
        of, begin = np.repeat(np.arange(len(listed)), count), np.cumsum(count) - count
        ranked = np.lexsort((-value.numpy(), of))  # of one mesh after the other, its best first
        best = ranked[begin]
        first = np.argsort(-margin[best], kind="stable")[: min(LISTED, RIVALS * self._config.top_k)]  # of meshes
        stays = margin >= least
        stays[ranked[(np.arange(len(of)) - begin[of] < EACH) & np.isin(of, first)]] = True
        if self._config.window:
            stays &= margin >= margin.max() - self._config.window
        stays[best[first[:NAMED]]] = True
        each = zip(listed, np.split(stays, begin[1:]), strict=True)
        return [MeshPoses(poses.mesh, poses.turn[mine], poses.pose[mine]) for poses, mine in each if mine.any()]
