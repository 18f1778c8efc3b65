"""The configured refinement against the published one, 50 steps of AdamW, from the same candidates of the same photos."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pasr_perception.benchmark.figures import Figure, bootstrap_ratio, missing, paired_ratio
from pasr_perception.benchmark.queries import Query
from pasr_perception.config import RefineConfig
from pasr_perception.data.records import Truth
from pasr_perception.evaluation.scores import pose_error
from pasr_perception.evaluation.truth import MeshFacts, mesh_facts
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Hypothesis

PUBLISHED_STEPS = 50  # PASR 3.3


@dataclass(frozen=True)
class RefineComparison:
    """Ratios of the configured method over AdamW; below 1 is better, but for the speed."""

    speedup: Figure
    loss_ratio: Figure
    error_ratio: Figure


@dataclass(frozen=True)
class Refinement:
    """One query, one method."""

    seconds: float
    loss: float  # 1 - eq. 8 of the hypothesis in the end
    rotation: float  # error, radians, the least over the object's symmetries


def compare_refinement(pipeline: Pipeline, queries: Sequence[Query]) -> RefineComparison:
    """Refine the true mesh's candidates of every query whose truth is known, with both methods in turn.

    The mesh is given (`only`), so that the comparison is of poses and not of retrieval.
    """
    known = {e.id for e in pipeline.library.entries}
    asked = [(q, q.truth) for q in queries if q.truth is not None and q.truth.mesh_id in known]
    if not asked:
        why = "no query with a known pose of a mesh of this library"
        return RefineComparison(missing("x", why), missing("x", why), missing("x", why))
    facts = mesh_facts(pipeline.library)
    published = configured(pipeline, adamw(pipeline.config.refine))
    pairs = []
    for number, (query, truth) in enumerate(asked):
        order = [pipeline, published] if number % 2 else [published, pipeline]
        if not number:  # warms both up
            [_refined(p, query, truth, facts) for p in order]
        found = {id(p): _refined(p, query, truth, facts) for p in order}
        mine, theirs = found[id(pipeline)], found[id(published)]
        if mine is not None and theirs is not None:
            pairs.append((mine, theirs))
    return _compared(pairs, pipeline.config.refine.top_k)


def _compared(pairs: Sequence[tuple[Refinement, Refinement]], hypotheses: int) -> RefineComparison:
    if not pairs:
        why = "no query's box allowed a pose"
        return RefineComparison(missing("x", why), missing("x", why), missing("x", why))
    mine, theirs = zip(*pairs, strict=True)
    error = missing("x", "AdamW's median error is 0")
    if np.median([t.rotation for t in theirs]) > 0:
        error = bootstrap_ratio(
            [m.rotation for m in mine],
            [t.rotation for t in theirs],
            lambda x: float(np.median(x)),
            "median rotation error of the best hypothesis, symmetry taken into account, mesh given",
        )
    return RefineComparison(
        paired_ratio(
            [t.seconds for t in theirs],
            [m.seconds for m in mine],
            f"{hypotheses} hypotheses of one crop, AdamW / configured",
        ),
        bootstrap_ratio(
            [m.loss for m in mine],
            [t.loss for t in theirs],
            lambda x: float(np.mean(x)),
            "mean of 1 - eq. 8, best hypothesis",
        ),
        error,
    )


def adamw(config: RefineConfig) -> RefineConfig:
    """The published method with the number of candidates that is configured."""
    return RefineConfig(method="adamw", unknowns=3, top_k=config.top_k, steps=PUBLISHED_STEPS)


def configured(pipeline: Pipeline, refine: RefineConfig) -> Pipeline:
    """The same pipeline, sharing encoder and library, with another refinement."""
    other = copy.copy(pipeline)
    other.config = dataclasses.replace(pipeline.config, refine=refine)
    return other


def _refined(pipeline: Pipeline, query: Query, truth: Truth, facts: Mapping[str, MeshFacts]) -> Refinement | None:
    result = pipeline.detect(query.frame, [query.detection], only=[truth.mesh_id])
    if not result.objects:
        return None
    best: Hypothesis = result.objects[0].best
    error = pose_error(best.T_cam_obj, truth, facts[truth.mesh_id])
    return Refinement(result.timings.refine, 1 - best.similarity, error.rotation)
