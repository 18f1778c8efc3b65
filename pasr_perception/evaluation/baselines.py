"""What the method has to beat: chance, and pooled features with nearest neighbour over rendered views.

Chance is exact for retrieval (its expected value) and sampled, with a seed, for poses: a random rotation of the mesh's
pose set, put where the box says. Pooled is the usual retrieval baseline: the mean feature over the box against the mean
foreground feature of every rendered view of every mesh; the best view gives mesh and rotation, the box the place.
Neither refines, so "before" and "after" are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pasr_perception.crop import crop_detections
from pasr_perception.data.records import PublishedHypothesis
from pasr_perception.evaluation import metrics
from pasr_perception.evaluation.scores import (
    ADDS_LIMIT,
    ADDS_ROTATION_LIMIT,
    TOP_K,
    Errors,
    PoseError,
    PoseScores,
    Scores,
    Shares,
    pose_error,
)
from pasr_perception.evaluation.truth import Case, MeshFacts
from pasr_perception.geometry.viewpoints import pose_set, quarter_turn
from pasr_perception.lift import LiftError, lift_translation, pose_in_camera
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Camera, Crop, Detection, Frame

SAMPLES = 4  # random poses per object


@dataclass(frozen=True)
class PooledViews:
    """Every rendered view of every mesh, as pooled descriptors."""

    descriptors: torch.Tensor  # [W, D] float32, unit length
    rotation: np.ndarray  # [W, 3, 3] R_crop_obj
    mesh_index: torch.Tensor  # [W] int64

    @classmethod
    def of(cls, pipeline: Pipeline) -> PooledViews:
        library = pipeline.library
        data = [library.data(i) for i in range(len(library.entries))]
        counts = torch.tensor([len(d.view_rotation) for d in data])
        descriptors = torch.nn.functional.normalize(torch.cat([d.view_pooled.float() for d in data]), dim=-1)
        rotation = torch.cat([d.view_rotation for d in data]).double().numpy()
        return cls(descriptors, rotation, torch.arange(len(data)).repeat_interleave(counts))


class Placer:
    """Puts a mesh, at a rotation, where a crop's box says."""

    def __init__(self, pipeline: Pipeline) -> None:
        entries = pipeline.library.entries
        self.index = {entry.id: i for i, entry in enumerate(entries)}
        self.entries = entries
        # The lift needs the outline only: every fourth point of a mesh's thousands is plenty.
        self._points = [
            pipeline.library.data(i).points[::4].double().numpy() * entry.scale for i, entry in enumerate(entries)
        ]

    def pose(self, mesh: int, R_crop_obj: np.ndarray, crop: Crop, camera: Camera) -> np.ndarray | None:
        """T_cam_obj [4, 4], or None where the box allows no pose."""
        try:
            t = lift_translation(self._points[mesh], R_crop_obj, crop, camera)
        except LiftError:
            return None
        return pose_in_camera(R_crop_obj, t, crop, np.asarray(self.entries[mesh].center))


def pool_boxes(maps: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Mean feature over each crop's box, unit length [B, D]: maps [B, D, g, g], boxes [B, 4] xyxy in crop pixels.

    Cells count by the share of them that the box covers.
    """
    grid = maps.shape[-1]
    cell = size / grid
    edges = torch.arange(grid, device=maps.device) * cell

    def cover(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:  # [B, g]
        return (torch.minimum(high[:, None], edges + cell) - torch.maximum(low[:, None], edges)).clamp(min=0) / cell

    weight = cover(boxes[:, 1], boxes[:, 3])[:, :, None] * cover(boxes[:, 0], boxes[:, 2])[:, None]  # [B, g, g]
    pooled = torch.einsum("bdij,bij->bd", maps, weight)
    return torch.nn.functional.normalize(pooled, dim=-1)


@dataclass(frozen=True)
class PooledAnswer:
    """What the pooled baseline says of one detection."""

    hypotheses: tuple[PublishedHypothesis, ...]  # one per mesh, best first
    given_mesh: np.ndarray | None  # [4, 4] T_cam_obj of the true mesh's best view


class PooledBaseline:
    """Global-average-pooled features with nearest neighbour over rendered views."""

    def __init__(self, pipeline: Pipeline, ranked: int = TOP_K) -> None:
        self._pipeline, self._views, self._placer = pipeline, PooledViews.of(pipeline), Placer(pipeline)
        self._ranked = ranked

    def answer(self, frame: Frame, asked: Sequence[tuple[Detection, str]]) -> list[PooledAnswer]:
        """Answers to (detection, true mesh id) pairs, in order; the true id is only used for `given_mesh`."""
        crops = {id(c.detection): c for c in crop_detections(frame, [d for d, _ in asked], self._pipeline.crop_spec)[0]}
        if not crops:
            return [PooledAnswer((), None) for _ in asked]
        maps = self._pipeline.encode(list(crops.values())).cpu()  # [B, T, D, g, g]
        box = torch.tensor(np.stack([c.box for c in crops.values()]), dtype=torch.float32)
        size, similarities = self._pipeline.crop_spec.size, []
        for turn in range(maps.shape[1]):
            similarities.append(pool_boxes(maps[:, turn], box, size) @ self._views.descriptors.T)
            box = torch.stack([box[:, 1], size - box[:, 2], box[:, 3], size - box[:, 0]], 1)  # a quarter anticlockwise
        similarity = dict(zip(crops, torch.stack(similarities, 1), strict=True))
        return [
            self._one(crops[id(d)], frame.camera, similarity[id(d)], true_id)
            if id(d) in crops
            else PooledAnswer((), None)
            for d, true_id in asked
        ]

    def _one(self, crop: Crop, camera: Camera, by_turn: torch.Tensor, true_id: str) -> PooledAnswer:
        placer, views = self._placer, self._views
        similarity, turns = by_turn.max(0)  # [W] each view in the turned crop that it fits best

        def rotation(view: int) -> np.ndarray:
            return quarter_turn(int(turns[view])) @ views.rotation[view]

        best_view: dict[int, int] = {}  # mesh -> its best view, in the order of the ranking
        for view in torch.argsort(similarity, descending=True, stable=True).tolist():
            best_view.setdefault(int(views.mesh_index[view]), view)
        hypotheses = []
        for mesh, view in list(best_view.items())[: self._ranked]:
            T = placer.pose(mesh, rotation(view), crop, camera)
            if T is not None:
                # A cosine is no probability; the score only has to order.
                value = float((similarity[view] + 1) / 2)
                hypotheses.append(PublishedHypothesis(placer.entries[mesh].id, value, T))
        mine = placer.index.get(true_id)
        given = None if mine is None else placer.pose(mine, rotation(best_view[mine]), crop, camera)
        return PooledAnswer(tuple(hypotheses), given)


class RandomPoses:
    """Random rotations of the true mesh's pose set, put where the box says: the errors of guessing."""

    def __init__(self, pipeline: Pipeline, seed: int) -> None:
        self._pipeline, self._placer = pipeline, Placer(pipeline)
        self._rng = np.random.default_rng(seed)

    def errors(
        self, frame: Frame, cases: Sequence[Case], facts: Mapping[str, MeshFacts]
    ) -> list[tuple[str, list[PoseError]]]:
        """(true mesh id, `SAMPLES` errors) of every case that can be cropped."""
        crops = crop_detections(frame, [case.detection for case in cases], self._pipeline.crop_spec)[0]
        by_detection = {id(crop.detection): crop for crop in crops}
        found = []
        for case in cases:
            if id(case.detection) not in by_detection:
                continue
            mesh = self._placer.index[case.truth.mesh_id]
            entry = self._placer.entries[mesh]
            rotations = pose_set(entry.pose_set, entry.up)
            drawn = rotations[self._rng.integers(len(rotations), size=SAMPLES)]
            poses = [self._placer.pose(mesh, R, by_detection[id(case.detection)], frame.camera) for R in drawn]
            errors = [pose_error(T, case.truth, facts[entry.id]) for T in poses if T is not None]
            found.append((entry.id, errors))
        return found


def chance_scores(
    truth: Sequence[str], errors: Sequence[PoseError], facts: Mapping[str, MeshFacts]
) -> tuple[Scores, PoseScores]:
    """Expected retrieval of a blind guess over true mesh ids, with the pose errors of random poses; also mesh given."""
    meshes = len(facts)
    categories = Counter(f.category for f in facts.values())
    shapes = Counter(f.shape_class for f in facts.values())
    rotation = metrics.percentile_summary([float(np.degrees(e.rotation)) for e in errors])
    translation = metrics.percentile_summary([e.translation for e in errors])
    adds = metrics.share_below([e.adds for e in errors], ADDS_LIMIT)
    adds_rotation = metrics.share_below([e.adds_rotation for e in errors], ADDS_ROTATION_LIMIT)
    given = PoseScores(
        len(truth),
        Errors(rotation, rotation),
        Errors(translation, translation),
        Shares(adds, adds),
        Shares(adds_rotation, adds_rotation),
    )
    mesh = 1 / meshes if truth else None
    blind = [None if share is None or mesh is None else share * mesh for share in (adds, adds_rotation)]
    scores = Scores(
        objects=len(truth),
        rotation_error_deg=given.rotation_error_deg,
        translation_error_m=given.translation_error_m,
        adds_10d=Shares(blind[0], blind[0]),
        adds_rotation_05d=Shares(blind[1], blind[1]),
        mesh_top1=mesh,
        mesh_top5=min(TOP_K, meshes) / meshes if truth else None,
        category_top1=_mean([categories[facts[t].category] / meshes for t in truth]),
        shape_class_top1=_mean([shapes[facts[t].shape_class] / meshes for t in truth]),
        rotation_error_deg_all=given.rotation_error_deg,
        translation_error_m_all=given.translation_error_m,
    )
    return scores, given


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
