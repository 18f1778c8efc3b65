"""Coarse search: the best (mesh, pose) pairs of every crop by eq. 8 (PASR 3.3), each scored exactly.

Which pairs are scored is the shortlist's choice (`shortlist.py`); the exhaustive search scores all of them and is what the
shortlist is measured against.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from pasr_perception.chroma import agreement, templates_sums
from pasr_perception.config import CoarseConfig
from pasr_perception.encoders.adapter import compared_maps
from pasr_perception.encoders.base import Encoder, image_batch
from pasr_perception.encoders.centring import centred_maps, share_inside
from pasr_perception.geometry.viewpoints import quarter_turn
from pasr_perception.templates import (
    ChosenPoses,
    SparseCloud,
    log_aspect,
    score_poses,
    score_templates,
    turned_aspect,
)
from pasr_perception.types import Candidates, Crop, Rivals

# poses of one turn from which scoring all of the mesh's poses costs less than scoring these; without a kernel, and with one
WHOLE_MESH_FROM, WHOLE_MESH_FROM_ON_CPU = 64, 256
QUARTERS = torch.as_tensor(np.stack([quarter_turn(i) for i in range(4)]), dtype=torch.float32)  # [4, 3, 3] clockwise
NAMED = 10  # meshes that a list of candidates names at least, where there are so many and room for poses besides
DISTINCT_ANGLE = math.radians(30)  # candidates of one mesh closer than this would refine to the same pose


@dataclass(frozen=True)
class MeshPoses:
    """Poses of one mesh that one crop is to be compared with."""

    mesh: int
    turn: np.ndarray  # [k] int64, quarter turns of the crop
    pose: np.ndarray  # [k] int64, index into the mesh's templates


class SearchSpace(Protocol):
    """What the search reads of a library, on the device it searches on."""

    @property
    def turns(self) -> Sequence[tuple[int, ...]]:
        """Per mesh the quarter turns of the crop that its pose set asks for."""

    @property
    def rivals(self) -> Rivals:
        """What each mesh's value has to stand out from before meshes compete."""

    def sparse(self, mesh: int) -> SparseCloud: ...


Shortlist = Callable[[torch.Tensor, torch.Tensor, Sequence[int | None]], list[list[MeshPoses]]]


def turn_maps(encoder: Encoder, crops: Sequence[Crop], turns: Sequence[int], batch_size: int) -> torch.Tensor:
    """Feature maps [B, T, D, g, g] of crops as they are compared, centred, each turned anticlockwise by `turns` quarters.

    A cell's channels lie together in memory, which is how all that compares them reads them.
    """
    boxes = torch.tensor(np.stack([c.box / len(c.image) for c in crops]), dtype=torch.float32)
    found = []
    for images, some in zip(
        image_batch([c.image for c in crops]).split(batch_size), boxes.split(batch_size), strict=True
    ):
        maps = torch.stack([encoder.encode(torch.rot90(images, turn, (2, 3))) for turn in turns], 1)
        centred = centred_maps(maps, share_inside(some.to(maps.device), turns, encoder.grid))
        found.append(compared_maps(encoder, centred))
    return torch.cat(found).movedim(2, -1).contiguous().movedim(-1, 2)


def coarse_search(
    maps: torch.Tensor,
    box_size: torch.Tensor,
    space: SearchSpace,
    config: CoarseConfig,
    only: Sequence[int | None] | None = None,
    shortlist: Shortlist | None = None,
    chroma: torch.Tensor | None = None,
) -> list[Candidates]:
    """The best (mesh, pose) pairs of every crop among those on the shortlist; without one, among all.

    maps [B, T, D, g, g] of the crops turned by 0..T-1 quarters (`turn_maps`); box_size [B, 2] width and height of each crop's
    box in any unit; `only` restricts a crop to one mesh; chroma [B, T, g*g, 2] of the same turned crops (`crop_chroma`), without
    which colours are not compared.
    """
    if only is not None and len(only) != len(maps):
        raise ValueError(f"only: expected one entry per crop ({len(maps)}), got {len(only)}")
    only = only if only is not None else [None] * len(maps)
    listed = _everything(space, only) if shortlist is None else shortlist(maps, box_size, only)
    cells = maps.flatten(3).transpose(2, 3).contiguous()  # [B, T, g*g, D]
    asked = [(b, poses) for crops in _by_mesh(listed) for b, poses in crops]
    tasks = [
        Task(cells[b], space.sparse(poses.mesh), poses, None if chroma is None else chroma[b]) for b, poses in asked
    ]
    scored: list[list[tuple[Task, torch.Tensor]]] = [[] for _ in maps]
    for (b, _), task, scores in zip(asked, tasks, exact_scores(tasks), strict=True):
        scored[b].append((task, scores))
    aspect = log_aspect(box_size)
    each = [config.per_mesh if mesh is None else config.top_k for mesh in only]
    return [_best(Scored.of(mine), aspect[b], space.rivals, config, each[b]) for b, mine in enumerate(scored)]


def _everything(space: SearchSpace, only: Sequence[int | None]) -> list[list[MeshPoses]]:
    """Every pose of every mesh that each crop may be."""
    every = []
    for mesh, turns in enumerate(space.turns):
        poses = len(space.sparse(mesh).templates.rotation)
        every.append(MeshPoses(mesh, np.repeat(turns, poses), np.tile(np.arange(poses), len(turns))))
    return [every if mesh is None else [every[mesh]] for mesh in only]


def _by_mesh(listed: Sequence[Sequence[MeshPoses]]) -> list[list[tuple[int, MeshPoses]]]:
    """For every mesh on any list the crops that want it: what is loaded of a mesh serves all of them."""
    found: dict[int, list[tuple[int, MeshPoses]]] = {}
    for crop, entries in enumerate(listed):
        for entry in entries:
            found.setdefault(entry.mesh, []).append((crop, entry))
    return [found[mesh] for mesh in sorted(found)]


@dataclass(frozen=True)
class Task:
    """Poses of one mesh that are to be compared with one crop."""

    cells: torch.Tensor  # [T, g*g, D] of the crop in its turns
    cloud: SparseCloud
    poses: MeshPoses
    chroma: torch.Tensor | None = None  # [T, g*g, 2] of the cells

    @property
    def chosen(self) -> ChosenPoses:
        """Its poses before the crop's features."""
        return ChosenPoses(self.cells, self.cloud, self.poses.turn, self.poses.pose)

    @property
    def coloured(self) -> ChosenPoses:
        """The same before the crop's chroma."""
        assert self.chroma is not None
        return replace(self.chosen, cells=self.chroma)

    @property
    def is_whole(self) -> bool:
        """Whether all of the mesh's poses cost less than these."""
        least = WHOLE_MESH_FROM_ON_CPU if self.cloud.runs is None else WHOLE_MESH_FROM
        return len(self.poses.pose) >= least * len(np.unique(self.poses.turn))


@dataclass(frozen=True)
class Scored:
    """Poses of meshes, compared with one crop."""

    tasks: tuple[Task, ...]
    mesh: torch.Tensor  # [k] int64, on the CPU
    turn: torch.Tensor  # [k] int64
    outline: torch.Tensor  # [k, 2] of the templates
    similarity: torch.Tensor  # [k] eq. 8
    agreement: torch.Tensor  # [k] of colours

    @classmethod
    def of(cls, found: Sequence[tuple[Task, torch.Tensor]]) -> Scored:
        """One task's poses after the other's, each with its similarities."""
        tasks, similarity = zip(*found, strict=True)
        mesh = np.repeat([task.poses.mesh for task in tasks], [len(task.poses.pose) for task in tasks])
        turn = np.concatenate([task.poses.turn for task in tasks])
        outline = of_poses(tasks, lambda task: task.cloud.templates.outline)
        joined = torch.cat(similarity)
        agreed = torch.zeros_like(joined)
        if tasks[0].chroma is not None:  # one crop's tasks all have it, or none
            agreed = agreement(torch.cat(templates_sums([task.coloured for task in tasks])))
        return cls(tasks, torch.from_numpy(mesh), torch.from_numpy(turn).to(joined.device), outline, joined, agreed)

    @property
    def rotation(self) -> torch.Tensor:
        """[k, 3, 3] of the templates."""
        return of_poses(self.tasks, lambda task: task.cloud.templates.rotation)

    def value(self, aspect: torch.Tensor, config: CoarseConfig, rivals: Rivals) -> torch.Tensor:
        """What orders poses [k]; the crop's box has the log aspect []."""
        mismatch = (turned_aspect(aspect, self.turn) - log_aspect(self.outline)).abs()
        return values(self.similarity, mismatch, self.agreement, rivals.spread[self.mesh].to(mismatch.device), config)


def values(
    similarity: torch.Tensor,
    mismatch: torch.Tensor,
    agreement: torch.Tensor,
    spread: torch.Tensor,
    config: CoarseConfig,
) -> torch.Tensor:
    """What orders poses [k]: similarity, less what the outline's mismatch with its box costs, plus what agreeing colours are worth.

    `spread` [k] is that of strangers to each one's mesh.
    """
    return similarity - config.outline_weight * mismatch + config.colour_weight * spread * agreement


def of_poses(tasks: Sequence[Task], told: Callable[[Task], torch.Tensor]) -> torch.Tensor:
    """What is told [P, ...] of every pose of a task's mesh, of the task's own poses [k, ...], one task's after the other's."""
    each = [(told(task), task.poses.pose) for task in tasks]
    if each[0][0].device.type == "cpu":  # dozens of small pieces, which cost numpy a fifth of what they cost torch
        return torch.from_numpy(np.concatenate([values.numpy()[pose] for values, pose in each]))
    return torch.cat([values[torch.from_numpy(pose).to(values.device)] for values, pose in each])


def exact_scores(tasks: Sequence[Task]) -> list[torch.Tensor]:
    """Eq. 8 [k] of each task's poses, by the cheaper of two equal ways."""
    chosen = [task.chosen for task in tasks if not task.is_whole]
    few = iter(score_poses(chosen) if chosen else [])
    return [whole_scores(task) if task.is_whole else next(few) for task in tasks]


def whole_scores(task: Task) -> torch.Tensor:
    """Eq. 8 [k] of a task's poses, out of that of all of the mesh's poses."""
    score, side = task.cells.new_empty(len(task.poses.pose)), math.isqrt(task.cells.shape[1])
    for turn in np.unique(task.poses.turn).tolist():
        mine = task.poses.turn == turn
        index, pose = (torch.from_numpy(i).to(score.device) for i in (np.flatnonzero(mine), task.poses.pose[mine]))
        maps = task.cells[turn].T.unflatten(1, (side, side))[None]
        score[index] = score_templates(maps, task.cloud.features.float(), task.cloud.templates)[0, pose]
    return score


def _best(scored: Scored, aspect: torch.Tensor, rivals: Rivals, config: CoarseConfig, per_mesh: int) -> Candidates:
    """Those poses of one crop that stand out most, of each mesh up to `per_mesh` distinct ones."""
    value = scored.value(aspect, config, rivals)
    rotation = quarter_turns(scored.turn) @ scored.rotation
    margin = rivals.margin(value.cpu(), scored.mesh).numpy()
    chosen = torch.from_numpy(
        distinct_best(margin, scored.mesh.numpy(), rotation.cpu().numpy(), config.top_k, per_mesh)
    )
    there = chosen.to(value.device)
    picked = (t[there] for t in (rotation, scored.turn, scored.similarity, value, scored.agreement))
    return Candidates(scored.mesh[chosen], *picked)


def distinct_best(margin: np.ndarray, mesh: np.ndarray, rotation: np.ndarray, count: int, per_mesh: int) -> np.ndarray:
    """Indices of up to `count` poses, best margin [K] first, up to `per_mesh` of each mesh [K].

    No two of a mesh have rotations [K, 3, 3] nearer than `DISTINCT_ANGLE`. The best pose of each of the first `NAMED` meshes is one
    of them, or of as many as half of `count`, however far behind it is.
    """
    flat, least = rotation.reshape(len(rotation), 9), 1 + 2 * math.cos(DISTINCT_ANGLE)
    barred, taken, chosen = np.zeros(len(mesh), bool), Counter[int](), list[int]()
    order = np.argsort(-margin, kind="stable")
    first = np.sort(np.unique(mesh[order], return_index=True)[1])[: min(NAMED, count // 2)]
    waiting = set(order[first].tolist())
    for i in order.tolist():
        if len(chosen) == count:
            break
        if barred[i] or (i not in waiting and len(chosen) + len(waiting) == count):
            continue
        waiting.discard(i)
        chosen.append(i)
        taken[int(mesh[i])] += 1
        same = mesh == mesh[i]
        barred |= same if taken[int(mesh[i])] == per_mesh else same & (flat @ flat[i] > least)
    return np.array(chosen, dtype=np.int64)


def quarter_turns(turn: torch.Tensor) -> torch.Tensor:
    """Rotations [k, 3, 3] about the optical axis by `turn` [k] clockwise quarter turns (negative: anticlockwise)."""
    return QUARTERS.to(turn.device)[turn % 4]
