"""How far two searches agree on the same queries: the mesh, the pose, and the order of everything in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr

from pasr_perception.types import Candidates

SAME_POSE = math.radians(
    0.5
)  # the poses of a set are at least ten degrees apart; this is float32's rounding, with room
TOP_POSES = 5


@dataclass(frozen=True)
class Agreement:
    """Of one query: what the search under test makes of the exact search's best candidate."""

    mesh_top1: bool  # its best candidate is of the same mesh
    pose_top5: bool  # the very (mesh, pose) is among its best `TOP_POSES`


def agreement(exact: Candidates, found: Candidates) -> Agreement:
    """Compare one query's candidates, best first; ValueError where either has none."""
    if not len(exact.mesh_index) or not len(found.mesh_index):
        raise ValueError("exact, found: expected at least one candidate each, got none")
    same = found.mesh_index == exact.mesh_index[0]
    cosine = ((found.rotation * exact.rotation[0]).sum((1, 2)) - 1) / 2
    near = (cosine > math.cos(SAME_POSE)).to(same.device)
    return Agreement(bool(same[0]), bool((same & near)[:TOP_POSES].any()))


def rank_correlation(exact: torch.Tensor, found: torch.Tensor) -> float:
    """Spearman's correlation of two lists of scores [n], n >= 2; ValueError for other shapes."""
    if exact.ndim != 1 or exact.shape != found.shape or len(exact) < 2:
        raise ValueError(f"exact, found: expected equal shapes [n], n >= 2, got {[*exact.shape]} and {[*found.shape]}")
    return float(spearmanr(exact.cpu().numpy(), found.cpu().numpy()).statistic)


def shares(found: Sequence[Agreement]) -> tuple[list[bool], list[bool]]:
    """The two yes-or-no lists of a run, mesh and pose."""
    return [a.mesh_top1 for a in found], [a.pose_top5 for a in found]
