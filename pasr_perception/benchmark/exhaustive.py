"""The reference that a fast search is held against: every (mesh, pose) of a library scored exactly, mesh by mesh."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pasr_perception.benchmark.queries import EncodedQueries
from pasr_perception.benchmark.subjects import MeshModel, SparseExact
from pasr_perception.coarse import quarter_turns
from pasr_perception.config import PasrConfig
from pasr_perception.library.resident import attraction
from pasr_perception.library.store import MeshLibrary
from pasr_perception.templates import outline_mismatch
from pasr_perception.types import Candidates


@dataclass(frozen=True)
class MeshScores:
    """Every pose of one mesh against every query; columns are turns of the crop, and poses within each."""

    similarity: torch.Tensor  # [B, T * P] eq. 8
    value: torch.Tensor  # [B, T * P] less what the outline's mismatch with the box costs
    rotation: torch.Tensor  # [T * P, 3, 3] R_crop_obj
    turn: torch.Tensor  # [T * P] int64


def mesh_scores(model: MeshModel, queries: EncodedQueries, outline_weight: float) -> MeshScores:
    """Score one mesh against all queries."""
    poses = len(model.templates.rotation)
    similarity = torch.cat([SparseExact(model)(one[None]) for one in queries.maps])  # one at a time bounds memory
    mismatch = [
        outline_mismatch(model.templates.outline, queries.box_size.flip(1) if turn % 2 else queries.box_size)
        for turn in model.turns
    ]
    turn = torch.tensor(model.turns, device=similarity.device).repeat_interleave(poses)
    rotation = quarter_turns(turn) @ model.templates.rotation.repeat(len(model.turns), 1, 1)
    return MeshScores(similarity, similarity - outline_weight * torch.cat(mismatch, 1), rotation, turn)


@dataclass(frozen=True)
class Exhaustive:
    """Everything scored exactly."""

    best: tuple[Candidates, ...]  # per query the best (mesh, pose), as candidates of one row
    similarity: torch.Tensor  # [B, sum over meshes of T * P], mesh after mesh


def exhaustive(library: MeshLibrary, queries: EncodedQueries, config: PasrConfig) -> Exhaustive:
    """Score every mesh at every pose; meshes compete by how far they stand out, as in the search."""
    rivals = attraction(library).rivals(config.rank)
    best: list[Candidates | None] = [None] * len(queries.maps)
    highest = torch.full((len(queries.maps),), -torch.inf, device=queries.maps.device)
    similarity = []
    for mesh in range(len(library)):
        model = MeshModel.load(library, mesh, queries.maps.device)
        scores = mesh_scores(model, queries, config.coarse.outline_weight)
        value, column = scores.value.max(1)
        margin = rivals.margin(value.cpu(), torch.full((len(value),), mesh)).to(value.device)
        for b in (margin > highest).nonzero()[:, 0].tolist():
            best[b] = _row(scores, b, int(column[b]), mesh)
        highest = torch.maximum(highest, margin)
        similarity.append(scores.similarity)
    return Exhaustive(tuple(c for c in best if c is not None), torch.cat(similarity, 1))


def _row(scores: MeshScores, query: int, column: int, mesh: int) -> Candidates:
    return Candidates(
        torch.tensor([mesh]),
        scores.rotation[column : column + 1],
        scores.turn[column : column + 1],
        scores.similarity[query, column : column + 1],
        scores.value[query, column : column + 1],
    )
