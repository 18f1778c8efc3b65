"""Everything that can answer which mesh is in a box, behind one interface: the pipeline, and what it has to beat.

Whether the pipeline is "lifted", "learned" or "both" lies in the library that it is opened with. A global embedding only ranks.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np

from pasr_perception.crop import crop_detections
from pasr_perception.data.records import PublishedHypothesis
from pasr_perception.encoders.global_embedding import load_global
from pasr_perception.evaluation.baselines import Placer, PooledBaseline
from pasr_perception.evaluation.global_ranker import GlobalRanker
from pasr_perception.geometry.viewpoints import pose_set
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Camera, Crop, Detection, Frame, Hypothesis

METHODS = ("chance", "pooled", "global", "lifted", "learned", "both")
RANKED = 10  # meshes that an answer names


@dataclass(frozen=True)
class Answer:
    """What was said of one box. Poses are T_cam_obj [4, 4]; None where the method gives none."""

    mesh_ids: tuple[str, ...] = ()  # best first
    pose: np.ndarray | None = None  # of the first
    mesh_ids_before: tuple[str, ...] = ()  # refinement
    pose_before: np.ndarray | None = None
    given: np.ndarray | None = None  # of the true mesh, where its id was told
    given_before: np.ndarray | None = None


class Method(Protocol):
    """Answers in the order of the detections; `true_ids` also asks for each one's true mesh's pose, and for nothing else."""

    def ask(
        self, frame: Frame, detections: Sequence[Detection], true_ids: Sequence[str] | None = None
    ) -> list[Answer]: ...


class CropRanker(Protocol):
    """Mesh ids with scores, best first, for each crop."""

    def rank(self, crops: Sequence[Crop]) -> list[list[tuple[str, float]]]: ...


class PipelineMethod:
    """The pipeline as a user has it; asked once more of the same crops, restricted to the true meshes, where those are told."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def ask(self, frame: Frame, detections: Sequence[Detection], true_ids: Sequence[str] | None = None) -> list[Answer]:
        look = self._pipeline.look(frame, detections)
        free = {id(o.detection): o for o in self._pipeline.explain(look).objects}
        answers = [
            _answer(free[id(d)].hypotheses, free[id(d)].coarse) if id(d) in free else Answer() for d in detections
        ]
        if true_ids is None:
            return answers
        true = {id(d): self._pipeline.library.index_of(i) for d, i in zip(detections, true_ids, strict=True)}
        told = {id(o.detection): o for o in self._pipeline.explain(look, [true[id(d)] for d in look.asked]).objects}
        given = [told.get(id(d)) for d in detections]
        return [
            answer if g is None else replace(answer, given=g.best.T_cam_obj, given_before=_pose(g.coarse))
            for answer, g in zip(answers, given, strict=True)
        ]


class PooledMethod:
    """Mean feature of the box against every rendered view."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pooled = PooledBaseline(pipeline, RANKED)

    def ask(self, frame: Frame, detections: Sequence[Detection], true_ids: Sequence[str] | None = None) -> list[Answer]:
        ids = [""] * len(detections) if true_ids is None else true_ids
        return [
            replace(_answer(a.hypotheses, a.hypotheses), given=a.given_mesh, given_before=a.given_mesh)
            for a in self._pooled.answer(frame, list(zip(detections, ids, strict=True)))
        ]


class ChanceMethod:
    """A blind guess: meshes in random order, poses at random out of their pose sets, put where the box says."""

    def __init__(self, pipeline: Pipeline, seed: int) -> None:
        self._pipeline, self._placer, self._rng = pipeline, Placer(pipeline), np.random.default_rng(seed)
        self._pose_set = cache(pose_set)

    def ask(self, frame: Frame, detections: Sequence[Detection], true_ids: Sequence[str] | None = None) -> list[Answer]:
        crops = {id(c.detection): c for c in crop_detections(frame, detections, self._pipeline.crop_spec)[0]}
        answers = []
        for detection, true_id in zip(detections, true_ids or [""] * len(detections), strict=True):
            if id(detection) not in crops:
                answers.append(Answer())
                continue
            order = [int(i) for i in self._rng.permutation(len(self._placer.entries))[:RANKED]]
            ids = tuple(self._placer.entries[i].id for i in order)
            crop, mine = crops[id(detection)], self._placer.index.get(true_id)
            pose = self._guess(order[0], crop, frame.camera)
            given = None if mine is None else self._guess(mine, crop, frame.camera)
            answers.append(Answer(ids, pose, ids, pose, given, given))
        return answers

    def _guess(self, mesh: int, crop: Crop, camera: Camera) -> np.ndarray | None:
        entry = self._placer.entries[mesh]
        rotations = self._pose_set(entry.pose_set, entry.up)
        return self._placer.pose(mesh, rotations[int(self._rng.integers(len(rotations)))], crop, camera)


class RankingMethod:
    """What retrieves and gives no pose: a global embedding."""

    def __init__(self, pipeline: Pipeline, ranker: CropRanker) -> None:
        self._pipeline, self._ranker = pipeline, ranker

    def ask(self, frame: Frame, detections: Sequence[Detection], true_ids: Sequence[str] | None = None) -> list[Answer]:
        crops = crop_detections(frame, detections, self._pipeline.crop_spec)[0]
        found = self._ranker.rank(crops) if crops else []
        ranked = {id(c.detection): r for c, r in zip(crops, found, strict=True)}
        ids = [tuple(mesh for mesh, _ in ranked.get(id(d), ()))[:RANKED] for d in detections]
        return [Answer(i, None, i) for i in ids]


class OfTightBoxes:
    """A baseline asked about the boxes that the pipeline looks through, so that methods differ in what they make of them."""

    def __init__(self, pipeline: Pipeline, method: Method) -> None:
        self._pipeline, self._method = pipeline, method

    def ask(self, frame: Frame, detections: Sequence[Detection], true_ids: Sequence[str] | None = None) -> list[Answer]:
        return self._method.ask(frame, [t.detection for t in self._pipeline.tightened(frame, detections)], true_ids)


def make_method(name: str, pipeline: Pipeline, ranker: str = "", seed: int = 0) -> Method:
    """The method of that name over an opened pipeline. `ranker`, of method global: see `load_ranker`."""
    if name not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {name!r}")
    if name == "chance":
        return OfTightBoxes(pipeline, ChanceMethod(pipeline, seed))
    if name == "pooled":
        return OfTightBoxes(pipeline, PooledMethod(pipeline))
    if name == "global":
        return OfTightBoxes(pipeline, RankingMethod(pipeline, load_ranker(ranker, pipeline)))
    return PipelineMethod(pipeline)


def load_ranker(where: str, pipeline: Pipeline) -> CropRanker:
    """The ranker of a file of global weights (empty: the package's own), or what `module:function` makes of the pipeline.

    Raises EncoderError for a file that is none, ValueError where `module:function` names nothing.
    """
    if ":" not in where:
        return GlobalRanker(pipeline, load_global(where, (pipeline.encoder.name, pipeline.encoder.fingerprint)))
    module, _, function = where.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"ranker: expected module:function, made for a pipeline, got {where!r} ({error})") from error
    ranker: CropRanker = make(pipeline)
    return ranker


def _answer(
    after: Sequence[Hypothesis | PublishedHypothesis], before: Sequence[Hypothesis | PublishedHypothesis]
) -> Answer:
    ids, ids_before = (tuple(h.mesh_id for h in hypotheses) for hypotheses in (after, before))
    return Answer(ids, _pose(after), ids_before, _pose(before))


def _pose(hypotheses: Sequence[Hypothesis | PublishedHypothesis]) -> np.ndarray | None:
    return hypotheses[0].T_cam_obj if hypotheses else None
