"""Coarse search: the best (mesh, pose) pairs of every crop by eq. 8 (PASR 3.3), each scored exactly.

Which pairs are scored is the shortlist's choice (`shortlist.py`); the exhaustive search scores all of them and is what the
shortlist is measured against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from pasr_perception.config import CoarseConfig
from pasr_perception.encoders.base import Encoder, image_batch
from pasr_perception.encoders.centring import centred_maps, share_inside
from pasr_perception.geometry.viewpoints import quarter_turn
from pasr_perception.templates import Templates, outline_mismatch, score_poses, score_templates
from pasr_perception.types import Candidates, Crop, Rivals

WHOLE_MESH_FROM = 64  # poses of one turn from which scoring all of the mesh's poses costs less than scoring these
DISTINCT_ANGLE = math.radians(30)  # candidates of one mesh closer than this would refine to the same pose


@dataclass(frozen=True)
class MeshPoses:
    """Poses of one mesh that one crop is to be compared with."""

    mesh: int
    turn: torch.Tensor  # [k] int64, quarter turns of the crop
    pose: torch.Tensor  # [k] int64, index into the mesh's templates


class SearchSpace(Protocol):
    """What the search reads of a library, on the device it searches on."""

    @property
    def turns(self) -> Sequence[tuple[int, ...]]:
        """Per mesh the quarter turns of the crop that its pose set asks for."""

    @property
    def rivals(self) -> Rivals:
        """What each mesh's value has to stand out from before meshes compete."""

    def features(self, mesh: int) -> torch.Tensor:
        """[N, D] float32."""

    def templates(self, mesh: int) -> Templates: ...


Shortlist = Callable[[torch.Tensor, torch.Tensor, Sequence[int | None]], list[list[MeshPoses]]]


def turn_maps(encoder: Encoder, crops: Sequence[Crop], turns: Sequence[int], batch_size: int) -> torch.Tensor:
    """Centred feature maps [B, T, D, g, g] of crops, each turned anticlockwise by `turns` quarters."""
    boxes = torch.tensor(np.stack([c.box / len(c.image) for c in crops]), dtype=torch.float32)
    found = []
    for images, some in zip(
        image_batch([c.image for c in crops]).split(batch_size), boxes.split(batch_size), strict=True
    ):
        maps = torch.stack([encoder.encode(torch.rot90(images, turn, (2, 3))) for turn in turns], 1)
        found.append(centred_maps(maps, share_inside(some.to(maps.device), turns, encoder.grid)))
    return torch.cat(found)


def coarse_search(
    maps: torch.Tensor,
    box_size: torch.Tensor,
    space: SearchSpace,
    config: CoarseConfig,
    only: Sequence[int | None] | None = None,
    shortlist: Shortlist | None = None,
) -> list[Candidates]:
    """The best (mesh, pose) pairs of every crop among those on the shortlist; without one, among all.

    maps [B, T, D, g, g] of the crops turned by 0..T-1 quarters (`turn_maps`); box_size [B, 2] width and height of each crop's
    box in any unit; `only` restricts a crop to one mesh.
    """
    if only is not None and len(only) != len(maps):
        raise ValueError(f"only: expected one entry per crop ({len(maps)}), got {len(only)}")
    only = only if only is not None else [None] * len(maps)
    listed = _everything(space, only) if shortlist is None else shortlist(maps, box_size, only)
    cells = maps.flatten(3).transpose(2, 3).contiguous()  # [B, T, g*g, D]
    found: list[list[Candidates]] = [[] for _ in maps]
    for crops in _by_mesh(listed):
        for b, poses in crops:
            count = config.per_mesh if only[b] is None else config.top_k
            features, templates = space.features(poses.mesh), space.templates(poses.mesh)
            score = exact_scores(maps[b], cells[b], features, templates, poses)
            found[b].append(_best_of_mesh(score, box_size[b], templates, poses, config.outline_weight, count))
    return [_best(candidates, space.rivals, config.top_k) for candidates in found]


def _everything(space: SearchSpace, only: Sequence[int | None]) -> list[list[MeshPoses]]:
    """Every pose of every mesh that each crop may be."""
    every = []
    for mesh, turns in enumerate(space.turns):
        poses = len(space.templates(mesh).rotation)
        turn = torch.tensor(turns, device=space.templates(mesh).rotation.device)
        pose = torch.arange(poses, device=turn.device)
        every.append(MeshPoses(mesh, turn.repeat_interleave(poses), pose.repeat(len(turns))))
    return [every if mesh is None else [every[mesh]] for mesh in only]


def _by_mesh(listed: Sequence[Sequence[MeshPoses]]) -> list[list[tuple[int, MeshPoses]]]:
    """For every mesh on any list the crops that want it: what is loaded of a mesh serves all of them."""
    found: dict[int, list[tuple[int, MeshPoses]]] = {}
    for crop, entries in enumerate(listed):
        for entry in entries:
            found.setdefault(entry.mesh, []).append((crop, entry))
    return [found[mesh] for mesh in sorted(found)]


def _best_of_mesh(
    score: torch.Tensor,
    box_size: torch.Tensor,
    templates: Templates,
    poses: MeshPoses,
    outline_weight: float,
    count: int,
) -> Candidates:
    """The best `count` distinct poses among those listed of one mesh, for one crop's score [k] of them."""
    boxes = torch.stack([box_size, box_size.flip(0)])  # [2, 2]
    mismatch = outline_mismatch(templates.outline, boxes)[poses.turn % 2, poses.pose]  # [k]
    value = score - outline_weight * mismatch
    rotation = quarter_turns(poses.turn) @ templates.rotation[poses.pose]
    chosen = distinct_best(value, rotation, count)
    index = torch.full((len(chosen),), poses.mesh, dtype=torch.long)
    return Candidates(index, rotation[chosen], poses.turn[chosen], score[chosen], value[chosen])


def exact_scores(
    maps: torch.Tensor, cells: torch.Tensor, features: torch.Tensor, templates: Templates, poses: MeshPoses
) -> torch.Tensor:
    """Eq. 8 [k] of the listed poses for one crop, by the cheaper of two equal ways.

    maps [T, D, g, g] of the crop's turns, and the same as cells [T, g*g, D].
    """
    turns = poses.turn.unique().tolist()
    if len(poses.pose) < WHOLE_MESH_FROM * len(turns):
        return score_poses(cells, features, templates, poses.turn, poses.pose)
    score = maps.new_empty(len(poses.pose))
    for turn in turns:
        mine = poses.turn == turn
        score[mine] = score_templates(maps[turn : turn + 1], features, templates)[0, poses.pose[mine]]
    return score


def distinct_best(value: torch.Tensor, rotation: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of up to `count` poses, best value [P] first, no two of rotation [P, 3, 3] nearer than `DISTINCT_ANGLE`."""
    left = value.clone()
    chosen: list[int] = []
    for _ in range(count):
        best = int(left.argmax())
        if left[best] == -torch.inf:
            break
        chosen.append(best)
        cosine = ((rotation * rotation[best]).sum((1, 2)) - 1) / 2
        left[cosine > math.cos(DISTINCT_ANGLE)] = -torch.inf
    return torch.tensor(chosen, device=value.device)


def quarter_turns(turn: torch.Tensor) -> torch.Tensor:
    """Rotations [k, 3, 3] about the optical axis by `turn` [k] clockwise quarter turns (negative: anticlockwise)."""
    table = torch.as_tensor(np.stack([quarter_turn(i) for i in range(4)]), dtype=torch.float32, device=turn.device)
    return table[turn % 4]


def _best(candidates: list[Candidates], rivals: Rivals, count: int) -> Candidates:
    mesh_index = torch.cat([c.mesh_index for c in candidates])
    rotation, turn, similarity, value = (
        torch.cat([getattr(c, name) for c in candidates]) for name in ("rotation", "turn", "similarity", "value")
    )
    order = rivals.margin(value.cpu(), mesh_index).argsort(descending=True, stable=True)[:count]
    return Candidates(mesh_index[order], rotation[order], turn[order], similarity[order], value[order])
