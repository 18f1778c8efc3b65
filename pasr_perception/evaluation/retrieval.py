"""Retrieval with pose as PASR reports it: top-k, category, and the rotation of the retrieved top-1, per occlusion level.

The rotation counts whatever mesh was retrieved, in the meshes' own axes; an object without an answer is a failure everywhere and
half a turn off in the median.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pasr_perception.evaluation import metrics
from pasr_perception.geometry.symmetry import Symmetry

HALF_TURN_DEG = 180.0
TOP = (1, 5, 10)


@dataclass(frozen=True)
class Outcome:
    """What one method said of one photo."""

    photo: str
    truth_id: str
    level: str
    look: str  # of the object in the photo
    ranked: tuple[str, ...]  # mesh ids, best first
    rotation_deg: float | None  # error of the best one's pose; None: no pose
    ranked_before: tuple[str, ...] = ()  # refinement
    rotation_before_deg: float | None = None
    same_picture: bool = False  # the first answer is another mesh, which gives the same picture in some pose


@dataclass(frozen=True)
class RetrievalScores:
    """Shares in 0..1 of all objects; None where there were none."""

    objects: int
    top1: float | None
    top5: float | None
    top10: float | None
    category_top1: float | None
    acc_pi_6: float | None
    acc_pi_18: float | None
    median_rotation_deg: float | None


@dataclass(frozen=True)
class MeshKind:
    """What tables are split by."""

    category: str
    symmetry: Symmetry
    group: int | None = None  # of look-alikes


def retrieval_scores(
    outcomes: Sequence[Outcome], kinds: Mapping[str, MeshKind], before: bool = False
) -> RetrievalScores:
    """Scores of outcomes; `before`: of what was found before refinement."""
    ranked = [o.ranked_before if before else o.ranked for o in outcomes]
    errors = [o.rotation_before_deg if before else o.rotation_deg for o in outcomes]
    truth = [o.truth_id for o in outcomes]
    top1, top5, top10 = (metrics.topk_accuracy(ranked, truth, k) for k in TOP)
    found = [[kinds[m].category for m in r[:1] if m in kinds] for r in ranked]
    return RetrievalScores(
        len(outcomes),
        top1,
        top5,
        top10,
        metrics.topk_accuracy(found, [kinds[t].category for t in truth], 1),
        metrics.accuracy_within(errors, math.degrees(math.pi / 6)),
        metrics.accuracy_within(errors, math.degrees(math.pi / 18)),
        metrics.median_with_failures(errors, HALF_TURN_DEG),
    )


def split_by(outcomes: Sequence[Outcome], key: Callable[[Outcome], str]) -> dict[str, list[Outcome]]:
    """Outcomes by what `key` says of each, sorted by it."""
    names = sorted({key(o) for o in outcomes})
    return {name: [o for o in outcomes if key(o) == name] for name in names}


def rotation_error_deg(T_estimated: np.ndarray | None, T_true: np.ndarray, symmetry: Symmetry) -> float | None:
    """Degrees between the rotations of two poses [4, 4], the least over the true object's symmetries; None without a pose."""
    if T_estimated is None:
        return None
    return float(np.degrees(metrics.rotation_error(T_estimated[:3, :3], T_true[:3, :3], symmetry)))
