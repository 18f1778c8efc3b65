"""Warm start: a known object's new pose from its predicted one. One turn of the crop is encoded, a few Newton steps, no search.

The crop looks through a box that leans on the prediction: where the object's outline is expected, moved towards the detected
edges by `BOX_GAIN`, less where an edge is far off, since that edge is then likelier to be hidden or cut than right. So loose
and clipped boxes cost little, and refinement moves shift and scale as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pasr_perception.coarse import turn_maps
from pasr_perception.config import RefineConfig, TrackConfig
from pasr_perception.crop import clipped_edges, crop_detection
from pasr_perception.depth import usable_depth
from pasr_perception.geometry.boxes import expected_box, sides
from pasr_perception.geometry.viewpoints import QUARTER_TURNS, direction_angles, look_at, up_rotation
from pasr_perception.lift import LiftError
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Candidates, Crop, Detection, Frame

POLISH_ROUNDS = 1  # a tracked pose is near already
BOX_GAIN = 0.25  # of a detected edge against the expected one
FAR_EDGE = 0.15  # of the box's side: an edge this far from where it is expected counts half


@dataclass(frozen=True)
class Look:
    """What one mesh's refinement from a predicted pose found."""

    mesh_id: str
    T_cam_obj: np.ndarray  # [4, 4]
    similarity: float
    margin: float
    by_depth: bool = False  # its distance was settled by a depth map


def nearest_turn(R_crop_obj: np.ndarray, pose_set: str, up: str) -> int:
    """The quarter turn of the crop in which a pose [3, 3] is nearest to those that its mesh's features were lifted from."""
    if len(QUARTER_TURNS[pose_set]) == 1:
        return 0
    R = R_crop_obj @ up_rotation(up).T
    (elevation, azimuth) = direction_angles(-R[2][None])[0]
    rest = R @ look_at(elevation, azimuth).T
    return round(math.atan2(rest[1, 0], rest[0, 0]) / (math.pi / 2)) % 4


def leaning_box(expected: np.ndarray, detection: Detection, frame: Frame) -> np.ndarray:
    """The expected box [4] moved towards the detected one, edge by edge."""
    box = np.asarray(detection.box, dtype=np.float64)
    side = sides(expected)
    off = (box - expected) / side
    gain = BOX_GAIN / (1 + (off / FAR_EDGE) ** 2)
    gain[clipped_edges(box, frame.camera)] = 0
    return expected + gain * off * side


class WarmStart:
    """Refines known objects from predicted poses."""

    def __init__(self, pipeline: Pipeline, config: TrackConfig) -> None:
        self._pipeline = pipeline
        known: RefineConfig = pipeline.config.refine
        given = replace(known, method="newton", unknowns=config.unknowns, iterations=config.iterations)
        polish = min(known.polish, POLISH_ROUNDS)
        # nothing was searched that could say who is far behind
        self._refine = replace(given, window=0.0, polish=polish, contour_weight=config.contour_weight)

    def __call__(self, frame: Frame, detection: Detection, predicted: Mapping[str, np.ndarray]) -> list[Look]:
        """Looks at meshes at predicted poses {id: T_cam_obj}; the first is the one that the box leans on.

        A mesh that cannot be placed is left out. Raises ValueError where the box cannot be cropped.
        """
        meshes = [self._pipeline.library.index_of(mesh_id) for mesh_id in predicted]
        poses = list(predicted.values())
        expected = expected_box(self._pipeline.placing.outer_points(meshes[0]), poses[0], frame.camera)
        box = np.asarray(detection.box, float) if expected is None else leaning_box(expected, detection, frame)
        crop = crop_detection(frame, replace(detection, box=box), self._pipeline.crop_spec)
        turns = [self._turn(mesh, T, crop) for mesh, T in zip(meshes, poses, strict=True)]
        found = []
        for turn in dict.fromkeys(turns):
            some = [i for i, mine in enumerate(turns) if mine == turn]
            found += self._looks(frame, crop, turn, [(meshes[i], poses[i]) for i in some])
        return found

    def _turn(self, mesh: int, T_cam_obj: np.ndarray, crop: Crop) -> int:
        entry = self._pipeline.library.entries[mesh]
        return nearest_turn(crop.R_cam_crop.T @ T_cam_obj[:3, :3], entry.pose_set, entry.up)

    def _looks(self, frame: Frame, crop: Crop, turn: int, starts: Sequence[tuple[int, np.ndarray]]) -> list[Look]:
        pipeline, device = self._pipeline, self._pipeline.device
        maps = turn_maps(pipeline.encoder, [crop], (turn,), 1)  # [1, 1, D, g, g]
        rotation = np.stack([crop.R_cam_crop.T @ T[:3, :3] for _, T in starts])
        count = len(starts)
        zeros = torch.zeros(count, device=device)
        start = Candidates(
            torch.tensor([mesh for mesh, _ in starts], device=device),
            torch.as_tensor(rotation, dtype=torch.float32, device=device),
            torch.full((count,), turn, device=device),
            zeros,
            zeros,
        )
        refined = pipeline.refine([start], maps, [crop], replace(self._refine, top_k=count), compared=False)[0]
        assert refined.displacement is not None
        looks = []
        for i, (mesh, _) in enumerate(starts):
            try:
                T = pipeline.placing.place(mesh, refined.rotation[i], refined.displacement[i], crop, frame.camera)
            except LiftError:
                continue
            margin = pipeline.margin(float(refined.value[i]), mesh)
            T, unused = pipeline.placing.by_depth(frame, mesh, T)
            by_depth = usable_depth(frame, pipeline.config.depth)[0] is not None and not unused
            looks.append(Look(pipeline.library.entries[mesh].id, T, float(refined.similarity[i]), margin, by_depth))
        return looks
