"""Photos with known poses in BOP's layout, asked straight through the pipeline: identity, shape class, and BOP's pose errors.

Poses come twice: with the true mesh given, which is BOP's task, and end to end, where an object whose mesh is wrong has failed.
Symmetries are those of models_info.json; models without any there have those found from their shape, and both are reported.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pasr_perception.data.bop import BopModel, BopReader, bop_models, mesh_name
from pasr_perception.data.detector import DetectorSpec, detect
from pasr_perception.data.records import Truth
from pasr_perception.evaluation import metrics
from pasr_perception.evaluation.bop_metrics import (
    depth_image,
    distance_image,
    mspd_recall,
    mssd_recall,
    vsd,
    vsd_recall,
)
from pasr_perception.evaluation.methods import Answer, Method
from pasr_perception.evaluation.scores import ADDS_LIMIT, ADDS_ROTATION_LIMIT, PoseError, pose_error
from pasr_perception.evaluation.truth import MeshFacts, mesh_facts
from pasr_perception.geometry.symmetry import NO_SYMMETRY
from pasr_perception.library.store import MeshLibrary
from pasr_perception.render.mesh import Raycaster
from pasr_perception.types import Camera

ADDS_ROTATION_LOOSE = 0.10  # of the diameter
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RealProtocol:
    """How photos are asked about."""

    jitter: float = 0.10  # every edge of a box is off by up to this share of its side
    min_visibility: float = 0.3
    seed: int = 0
    every: int = 1  # only every n-th photo


@dataclass(frozen=True)
class FullError:
    """One pose against the truth."""

    pose: PoseError
    mssd: float  # share of the diameter, over BOP's symmetries or those found
    mspd: float  # pixels in an image 640 wide, likewise
    mssd_plain: float  # without any symmetry but BOP's
    mspd_plain: float
    vsd: np.ndarray | None  # [T]; None without depth


@dataclass(frozen=True)
class Judgement:
    """One object: what it is, what was answered, how far the poses are off; None: no pose (or a wrong mesh's)."""

    truth_id: str
    ranked: tuple[str, ...]
    end_to_end: FullError | None
    given: FullError | None
    given_before: PoseError | None  # refinement
    has_depth: bool


class Judge:
    """Measures poses of the meshes of one library."""

    def __init__(self, library: MeshLibrary, models: Mapping[int, BopModel]) -> None:
        self.facts = mesh_facts(library)
        self._models = {mesh_name(number): model for number, model in models.items()}
        meshes = {entry.id: library.load_mesh(entry.id) for entry in library.entries}
        self._vertices = {i: np.unique(np.asarray(mesh.vertices), axis=0) for i, mesh in meshes.items()}
        self._casters = {i: Raycaster(mesh) for i, mesh in meshes.items()}

    def judgement(self, said: Answer, truth: Truth, camera: Camera, depth: np.ndarray | None) -> Judgement:
        """What an answer is worth."""
        right, before = said.mesh_ids[:1] == (truth.mesh_id,), said.given_before
        return Judgement(
            truth.mesh_id,
            said.mesh_ids,
            None if said.pose is None or not right else self.error(said.pose, truth, camera, depth),
            None if said.given is None else self.error(said.given, truth, camera, depth),
            None if before is None else pose_error(before, truth, self.facts[truth.mesh_id]),
            depth is not None,
        )

    def error(self, T: np.ndarray, truth: Truth, camera: Camera, depth: np.ndarray | None) -> FullError:
        """Errors of T_cam_obj [4, 4]; `depth` [H, W] metres is what the sensor saw, if it did."""
        facts, model = self.facts[truth.mesh_id], self._models.get(truth.mesh_id)
        listed = np.eye(4)[None] if model is None else model.symmetries
        diameter = model.diameter if model is not None and model.diameter > 0 else facts.surface.diameter
        points, wide = self._vertices[truth.mesh_id], 640 / camera.width
        poses = truth.T_cam_obj @ listed
        plain = metrics.mssd_of_poses(T, poses, points), metrics.mspd_of_poses(T, poses, points, camera.K)
        found = NO_SYMMETRY if len(listed) > 1 else facts.symmetry
        best = plain
        if not found.is_trivial:
            best = (
                metrics.mssd(T, truth.T_cam_obj, points, found),
                metrics.mspd(T, truth.T_cam_obj, points, camera.K, found),
            )
        misaligned = None if depth is None else self._vsd(T, truth, camera, depth, diameter)
        return FullError(
            pose_error(T, truth, facts),
            best[0] / diameter,
            best[1] * wide,
            plain[0] / diameter,
            plain[1] * wide,
            misaligned,
        )

    def _vsd(self, T: np.ndarray, truth: Truth, camera: Camera, depth: np.ndarray, diameter: float) -> np.ndarray:
        caster = self._casters[truth.mesh_id]
        estimated, true = (distance_image(depth_image(caster, pose, camera), camera.K) for pose in (T, truth.T_cam_obj))
        return vsd(estimated, true, distance_image(depth, camera.K), diameter)


def judge_photos(
    root: Path, library: MeshLibrary, method: Method, protocol: RealProtocol, tell: Tell | None = None
) -> tuple[list[Judgement], Mapping[str, MeshFacts]]:
    """What the method makes of every visible object of the photos below `root` whose mesh is in the library."""
    reader = BopReader(root)
    judge = Judge(library, bop_models(root))
    rng = np.random.default_rng(protocol.seed)
    spec = DetectorSpec(protocol.jitter, protocol.min_visibility)
    judged: list[Judgement] = []
    frames = itertools.islice(zip(reader, reader.depths(), strict=True), 0, None, protocol.every)
    for number, (item, depth) in enumerate(frames):
        if tell is not None:
            tell(f"photo {number}", number, 0)
        truths = {t.id: t for t in item.truths if t.mesh_id in judge.facts}
        detections = detect(tuple(truths.values()), spec, item.frame.camera, rng)
        asked = [truths[d.id].mesh_id for d in detections]
        for detection, said in zip(detections, method.ask(item.frame, detections, asked), strict=True):
            judged.append(judge.judgement(said, truths[detection.id], item.frame.camera, depth))
    return judged, judge.facts


def real_report(judged: Sequence[Judgement], facts: Mapping[str, MeshFacts]) -> dict[str, dict[str, Any]]:
    """Plain data: part (all, coloured, bare) -> numbers."""
    parts = {
        "all": list(judged),
        "coloured": [j for j in judged if facts[j.truth_id].appearance == "known"],
        "bare": [j for j in judged if facts[j.truth_id].appearance != "known"],
    }
    return {name: _numbers(part, facts) for name, part in parts.items() if part}


def real_results(report: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """What docs/results.json holds of a method; poses are those with the true mesh given."""
    everything, coloured = report["all"], report.get("coloured", {})
    return {
        "shape_top1": everything["shape_top1"],
        "id_top1": everything["id_top1"],
        "id_top1_coloured": coloured.get("id_top1"),
        "adds_rotation_05d": everything["given"]["adds_rotation_05d"],
        "adds_recall": everything["given"]["adds_10d"],
        "mssd_recall": everything["given"]["mssd_recall"],
        "mspd_recall": everything["given"]["mspd_recall"],
    }


def _numbers(judged: Sequence[Judgement], facts: Mapping[str, MeshFacts]) -> dict[str, Any]:
    shapes = [[str(facts[m].shape_class) for m in j.ranked[:1] if m in facts] for j in judged]
    truth = [str(facts[j.truth_id].shape_class) for j in judged]
    before = [None if j.given_before is None else j.given_before.adds_rotation for j in judged]
    return {
        "objects": len(judged),
        "id_top1": metrics.topk_accuracy([j.ranked for j in judged], [j.truth_id for j in judged], 1),
        "id_top5": metrics.topk_accuracy([j.ranked for j in judged], [j.truth_id for j in judged], 5),
        "shape_top1": metrics.topk_accuracy(shapes, truth, 1),
        "given": _recalls([j.given for j in judged], [j.has_depth for j in judged]),
        "given_before_adds_rotation_05d": metrics.accuracy_within(before, ADDS_ROTATION_LIMIT),
        "end_to_end": _recalls([j.end_to_end for j in judged], [j.has_depth for j in judged]),
    }


def _recalls(errors: Sequence[FullError | None], has_depth: Sequence[bool]) -> dict[str, float | None]:
    rotation = _each(errors, lambda e: e.pose.adds_rotation)
    misaligned = [None if e is None else e.vsd for e, known in zip(errors, has_depth, strict=True) if known]
    return {
        "adds_rotation_05d": metrics.accuracy_within(rotation, ADDS_ROTATION_LIMIT),
        "adds_rotation_10d": metrics.accuracy_within(rotation, ADDS_ROTATION_LOOSE),
        "adds_10d": metrics.accuracy_within(_each(errors, lambda e: e.pose.adds), ADDS_LIMIT),
        "mssd_recall": mssd_recall(_each(errors, lambda e: e.mssd)),
        "mspd_recall": mspd_recall(_each(errors, lambda e: e.mspd), 640),
        "mssd_recall_plain": mssd_recall(_each(errors, lambda e: e.mssd_plain)),
        "mspd_recall_plain": mspd_recall(_each(errors, lambda e: e.mspd_plain), 640),
        "vsd_recall": vsd_recall(misaligned),
        "vsd_objects": len(misaligned),
    }


def _each(errors: Sequence[FullError | None], value: Callable[[FullError], float]) -> list[float | None]:
    return [None if e is None else value(e) for e in errors]
