"""Turns cases into numbers: retrieval accuracy, pose errors before and after refinement, ADD-S shares.

Pose errors come twice: over the objects whose mesh is right (their frames agree, so the numbers mean something), and
as `..._all` over every answered object, judged as if the mesh were right. Shares (`adds_...`) count all objects; an
object whose mesh is wrong counts as failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pasr_perception.data.records import PublishedHypothesis, Truth
from pasr_perception.evaluation import metrics
from pasr_perception.evaluation.metrics import Summary
from pasr_perception.evaluation.truth import Case, MeshFacts

ADDS_LIMIT = 0.10  # of the diameter, the usual one
ADDS_ROTATION_LIMIT = 0.05  # of the diameter
TOP_K = 5


@dataclass(frozen=True)
class PoseError:
    """One pose against the truth."""

    rotation: float  # radians
    translation: float  # metres, of the object's middle
    adds: float  # share of the diameter
    adds_rotation: float  # share of the diameter, rotation alone


@dataclass(frozen=True)
class Judged:
    """One case, judged."""

    truth_id: str
    ranked: tuple[str, ...]  # mesh ids, best first, after refinement
    after: PoseError | None = None  # of the best hypothesis
    before: PoseError | None = None  # of the best hypothesis before refinement
    before_same: PoseError | None = None  # before refinement, of the hypothesis of the true mesh

    @property
    def right(self) -> bool:
        return bool(self.ranked) and self.ranked[0] == self.truth_id


@dataclass(frozen=True)
class Errors:
    """A list of errors before and after refinement."""

    before: Summary
    after: Summary


@dataclass(frozen=True)
class Shares:
    """Shares of all objects before and after refinement; None for no objects."""

    before: float | None
    after: float | None


@dataclass(frozen=True)
class PoseScores:
    """How good poses are."""

    objects: int
    rotation_error_deg: Errors
    translation_error_m: Errors
    adds_10d: Shares  # ADD-S under 10 % of the diameter
    adds_rotation_05d: Shares  # ADD-S of the rotation alone under 5 % of the diameter


@dataclass(frozen=True)
class Scores(PoseScores):
    """How good retrieval and poses are."""

    mesh_top1: float | None
    mesh_top5: float | None
    category_top1: float | None
    shape_class_top1: float | None
    rotation_error_deg_all: Errors
    translation_error_m_all: Errors


def pose_error(T_estimated: np.ndarray, truth: Truth, facts: MeshFacts) -> PoseError:
    """Errors of T_cam_obj [4, 4] against the truth, the truth's mesh (`facts`) being taken for the estimated one."""
    surface, symmetry = facts.surface, facts.symmetry
    # A symmetric object's fixed point is the only one that does not depend on which of the equivalent poses is meant.
    anchor = surface.center if symmetry.is_trivial else np.asarray(symmetry.center)
    R_estimated, R_true = T_estimated[:3, :3], truth.T_cam_obj[:3, :3]
    return PoseError(
        rotation=metrics.rotation_error(R_estimated, R_true, symmetry),
        translation=metrics.translation_error(T_estimated, truth.T_cam_obj, anchor),
        adds=metrics.add_s(T_estimated, truth.T_cam_obj, surface) / surface.diameter,
        adds_rotation=metrics.add_s_rotation_only(R_estimated, R_true, surface),
    )


def judge(case: Case, facts: Mapping[str, MeshFacts]) -> Judged:
    """Judge one case whose true mesh is in the library."""
    mine = facts[case.truth.mesh_id]

    def error(hypothesis: PublishedHypothesis | None) -> PoseError | None:
        return None if hypothesis is None else pose_error(hypothesis.T_cam_obj, case.truth, mine)

    same = next((h for h in case.before if h.mesh_id == mine.id), None)
    return Judged(
        mine.id,
        tuple(h.mesh_id for h in case.after),
        after=error(case.after[0] if case.after else None),
        before=error(case.before[0] if case.before else None),
        before_same=error(same),
    )


def score(judged: Sequence[Judged], facts: Mapping[str, MeshFacts]) -> Scores:
    """Numbers over judged cases."""
    right = [j for j in judged if j.right]
    after, before = [j.after for j in right], [j.before_same for j in right]
    truth = [j.truth_id for j in judged]
    ranked = [j.ranked for j in judged]
    best = [[facts[m] for m in j.ranked[:1] if m in facts] for j in judged]
    mine = [facts[t] for t in truth]
    return Scores(
        **vars(_pose_scores(before, after, len(judged))),
        mesh_top1=metrics.topk_accuracy(ranked, truth, 1),
        mesh_top5=metrics.topk_accuracy(ranked, truth, TOP_K),
        category_top1=metrics.topk_accuracy([[f.category for f in b] for b in best], [f.category for f in mine], 1),
        shape_class_top1=metrics.topk_accuracy(
            [[str(f.shape_class) for f in b] for b in best], [str(f.shape_class) for f in mine], 1
        ),
        rotation_error_deg_all=_rotation([j.before for j in judged], [j.after for j in judged]),
        translation_error_m_all=_translation([j.before for j in judged], [j.after for j in judged]),
    )


def score_poses(before: Sequence[PoseError | None], after: Sequence[PoseError | None]) -> PoseScores:
    """Numbers over poses whose mesh was given; None is an object without a pose."""
    return _pose_scores(before, after, len(after))


def _pose_scores(before: Sequence[PoseError | None], after: Sequence[PoseError | None], objects: int) -> PoseScores:
    return PoseScores(
        objects=objects,
        rotation_error_deg=_rotation(before, after),
        translation_error_m=_translation(before, after),
        adds_10d=Shares(*(_share([e.adds for e in x if e], ADDS_LIMIT, objects) for x in (before, after))),
        adds_rotation_05d=Shares(
            *(_share([e.adds_rotation for e in x if e], ADDS_ROTATION_LIMIT, objects) for x in (before, after))
        ),
    )


def _rotation(before: Sequence[PoseError | None], after: Sequence[PoseError | None]) -> Errors:
    return Errors(
        *(metrics.percentile_summary([float(np.degrees(e.rotation)) for e in x if e]) for x in (before, after))
    )


def _translation(before: Sequence[PoseError | None], after: Sequence[PoseError | None]) -> Errors:
    return Errors(*(metrics.percentile_summary([e.translation for e in x if e]) for x in (before, after)))


def _share(values: Sequence[float], limit: float, objects: int) -> float | None:
    return sum(v < limit for v in values) / objects if objects else None
