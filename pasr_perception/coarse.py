"""Coarse search: the exact score of every (mesh, pose) without rendering a feature map at query time (PASR 3.3, eq. 8).

The score of a pose is the mean, over the pixels it covers, of the cosine between the image's feature and the splatted one:

    s = 1/|fg| sum_p F_p . (sum_j w_pj M_j) / |sum_j w_pj M_j|  =  sum_{p,j} (w_pj / (|fg| |sum_j w_pj M_j|)) (F_p . M_j)

The bracket does not depend on the query, so it is computed once per library. A query costs one matrix product G = F M^T per
mesh and a sparse weighted sum over G per pose; nothing is approximated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from pasr_perception.config import CoarseConfig
from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.viewpoints import quarter_turn
from pasr_perception.render.splat import MIN_WEIGHT_SUM, SplatConfig, composite, rasterise
from pasr_perception.types import Candidates

POSES_PER_BLOCK = 64  # bounds memory while templates are built
DISTINCT_ANGLE = math.radians(30)  # candidates of one mesh closer than this would refine to the same pose


@dataclass(frozen=True)
class Templates:
    """The query-independent part of eq. 8 for one mesh: for every pose its sparse weights over (pixel, point) pairs."""

    rotation: torch.Tensor  # [P, 3, 3] float32, R_crop_obj
    start: torch.Tensor  # [P] int32, where each pose's pairs begin
    pair: torch.Tensor  # [E] int32, pixel * N + point
    weight: torch.Tensor  # [E] float32, so that a pose's score is the sum of weight * G[pixel, point]
    outline: torch.Tensor  # [P, 2] float32, width and height of the projected bounds in crop sizes

    def to_tensors(self) -> dict[str, torch.Tensor]:
        return {f"templates.{name}": tensor for name, tensor in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> Templates:
        return cls(**{name: tensors[f"templates.{name}"] for name in cls.__dataclass_fields__})

    def to(self, device: torch.device) -> Templates:
        return Templates(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def build_templates(
    points: torch.Tensor, features: torch.Tensor, rotation: torch.Tensor, view: ViewSpec, splat: SplatConfig
) -> Templates:
    """Rasterise points [N, 3] at every rotation [P, 3, 3] and keep weights normalised by the splatted features [N, D]."""
    pairs, weights, counts, outlines = [], [], [], []
    cells = splat.size * splat.size
    for block in rotation.split(POSES_PER_BLOCK):
        rotated = points @ block.transpose(1, 2)  # [B, N, 3]
        uv, depth = project(rotated, place(rotated, view), splat.size)
        fragments = rasterise(uv, depth, splat)
        norm = _raw_norm(fragments.weight, composite(fragments, features))  # [M]
        pose = fragments.pixel // cells
        area = torch.bincount(pose, minlength=len(block)).clamp(min=1)
        taken = fragments.index >= 0  # [M, K]
        scaled = fragments.weight / (norm * area[pose])[:, None]
        pairs.append(((fragments.pixel % cells)[:, None] * len(points) + fragments.index)[taken].int())
        weights.append(scaled[taken])
        counts.append(torch.zeros(len(block), dtype=torch.long, device=pose.device).index_add_(0, pose, taken.sum(1)))
        outlines.append((uv.amax(1) - uv.amin(1)) / splat.size)
    count = torch.cat(counts)
    start = (torch.cumsum(count, 0) - count).int()
    return Templates(rotation.float(), start, torch.cat(pairs), torch.cat(weights).float(), torch.cat(outlines).float())


def _raw_norm(weight: torch.Tensor, mean_feature: torch.Tensor) -> torch.Tensor:
    """|sum_j w_j M_j| [M] from the weighted mean that the compositor returns."""
    return (mean_feature.norm(dim=-1) * weight.sum(-1).clamp(min=MIN_WEIGHT_SUM)).clamp(min=1e-6)


def score_templates(maps: torch.Tensor, features: torch.Tensor, templates: Templates) -> torch.Tensor:
    """Eq. 8 of every crop and pose: maps [B, D, g, g], features [N, D] -> masked mean cosine [B, P]."""
    flat = maps.flatten(2).transpose(1, 2)  # [B, g*g, D]
    scores = []
    for products in flat @ features.T:  # [g*g, N] per crop
        scores.append(
            torch.nn.functional.embedding_bag(
                templates.pair,
                products.reshape(-1, 1),
                templates.start,
                mode="sum",
                per_sample_weights=templates.weight,
            )[:, 0]
        )
    return torch.stack(scores)


class SearchSpace(Protocol):
    """What the search reads of a library, on the device it searches on."""

    @property
    def features(self) -> Sequence[torch.Tensor]:
        """Per mesh [N, D] float32."""

    @property
    def templates(self) -> Sequence[Templates]: ...

    @property
    def turns(self) -> Sequence[Sequence[int]]:
        """Per mesh the quarter turns of the crop that its pose set asks for."""

    @property
    def attraction(self) -> torch.Tensor:
        """[M] each mesh's own offset, subtracted before meshes compete."""


def outline_mismatch(outline: torch.Tensor, box_size: torch.Tensor) -> torch.Tensor:
    """How much each pose's outline [P, 2] differs in aspect from each crop's box [B, 2]: |log ratio| of aspects [B, P]."""
    aspect = outline.clamp(min=1e-3).log()
    box = box_size.clamp(min=1e-3).log()
    return ((box[:, :1] - box[:, 1:]) - (aspect[:, 0] - aspect[:, 1])[None]).abs()


def turn_maps(
    encode: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, turns: Sequence[int]
) -> torch.Tensor:
    """Feature maps [B, T, D, g, g] of crops [B, 3, S, S] turned anticlockwise by each number of quarter turns."""
    return torch.stack([encode(torch.rot90(images, turn, (2, 3))) for turn in turns], 1)


def coarse_search(
    maps: torch.Tensor,
    box_size: torch.Tensor,
    space: SearchSpace,
    config: CoarseConfig,
    only: Sequence[int | None] | None = None,
) -> list[Candidates]:
    """The best (mesh, pose) pairs of every crop.

    maps [B, T, D, g, g] of the crops turned by 0..T-1 quarters (`turn_maps`); box_size [B, 2] width and height of each crop's
    box in any unit; `only` restricts a crop to one mesh.
    """
    if only is not None and len(only) != len(maps):
        raise ValueError(f"only: expected one entry per crop ({len(maps)}), got {len(only)}")
    found: list[list[Candidates]] = [[] for _ in maps]
    for mesh in range(len(space.templates)):
        wanted = [b for b in range(len(maps)) if only is None or only[b] is None or only[b] == mesh]
        for block in (wanted[i : i + config.crops_per_block] for i in range(0, len(wanted), config.crops_per_block)):
            counts = [config.per_mesh if only is None or only[b] is None else config.top_k for b in block]
            answers = _search_mesh(maps[block], box_size[block], space, mesh, config.outline_weight, counts)
            for b, candidates in zip(block, answers, strict=True):
                found[b].append(candidates)
    return [_best(candidates, space.attraction, config.top_k) for candidates in found]


def _search_mesh(
    maps: torch.Tensor,
    box_size: torch.Tensor,
    space: SearchSpace,
    mesh: int,
    outline_weight: float,
    counts: Sequence[int],
) -> list[Candidates]:
    """For every crop the best distinct poses of one mesh, as many as its entry of `counts` says."""
    templates, turns = space.templates[mesh], space.turns[mesh]
    scores, values = [], []
    for quarter in turns:
        score = score_templates(maps[:, quarter], space.features[mesh], templates)  # [B, P]
        turned_box = box_size.flip(1) if quarter % 2 else box_size
        scores.append(score)
        values.append(score - outline_weight * outline_mismatch(templates.outline, turned_box))
    score, value = torch.cat(scores, 1), torch.cat(values, 1)  # [B, T * P]
    turn = torch.tensor(turns, device=maps.device).repeat_interleave(len(templates.rotation))  # [T * P]
    rotation = quarter_turns(turn) @ templates.rotation.repeat(len(turns), 1, 1)
    candidates = []
    for b, count in enumerate(counts):
        chosen = distinct_best(value[b], rotation, count)
        index = torch.full((len(chosen),), mesh, dtype=torch.long)
        candidates.append(Candidates(index, rotation[chosen], turn[chosen], score[b, chosen], value[b, chosen]))
    return candidates


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


def _best(candidates: list[Candidates], attraction: torch.Tensor, count: int) -> Candidates:
    mesh_index = torch.cat([c.mesh_index for c in candidates])
    rotation, turn, similarity, value = (
        torch.cat([getattr(c, name) for c in candidates]) for name in ("rotation", "turn", "similarity", "value")
    )
    order = (value.cpu() - attraction[mesh_index]).argsort(descending=True, stable=True)[:count]
    return Candidates(mesh_index[order], rotation[order], turn[order], similarity[order], value[order])
