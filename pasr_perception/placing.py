"""From ranked hypotheses in a crop to an object before the camera: the lift, depth where there is any, and what is told of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from pasr_perception.confidence import is_ambiguous
from pasr_perception.config import PasrConfig
from pasr_perception.depth import refine_by_depth, usable_depth
from pasr_perception.geometry.se3 import make_T
from pasr_perception.library.resident import ResidentLibrary
from pasr_perception.library.store import MeshLibrary
from pasr_perception.lift import LiftError, displaced, lift_translation, pose_in_camera
from pasr_perception.rank import Ranked
from pasr_perception.types import Camera, Crop, Detection, Frame, Hypothesis, Later, ObjectEstimate

logger = logging.getLogger(__name__)


def farther(T_cam_obj: np.ndarray, center: np.ndarray, factor: float) -> np.ndarray:
    """A pose [4, 4] moved along the line of sight so that its mesh's middle [3] is `factor` times as far off."""
    middle = T_cam_obj[:3, :3] @ center + T_cam_obj[:3, 3]
    return make_T(T_cam_obj[:3, :3], T_cam_obj[:3, 3] + (factor - 1) * middle)


@dataclass(frozen=True)
class Told:
    """What search and refinement say of one detection."""

    detection: Detection  # as it came; the crop may look through another box
    crop: Crop
    before: Ranked  # refinement
    after: Ranked
    covariance: np.ndarray | None  # [6, 6] of the best of `after`


@dataclass(frozen=True)
class Placing:
    """Puts meshes of a library before the camera."""

    library: MeshLibrary
    space: ResidentLibrary
    config: PasrConfig

    def estimate(self, frame: Frame, told: Told) -> ObjectEstimate | None:
        """The object; None where no hypothesis can be placed."""
        after, covariance = told.after, told.covariance
        hypotheses = self.hypotheses(frame.camera, told.crop, after)
        if not hypotheses:
            return None
        if hypotheses[0].mesh_id == self.library.entries[after.mesh_index[0]].id:  # else that one cannot be placed
            hypotheses = (replace(hypotheses[0], covariance=covariance), *hypotheses[1:])
        placed = [self.by_depth(frame, self.library.index_of(h.mesh_id), h.T_cam_obj) for h in hypotheses]
        hypotheses = tuple(replace(h, T_cam_obj=T) for h, (T, _) in zip(hypotheses, placed, strict=True))
        ambiguous = is_ambiguous(after.score, self.config.confidence)
        notes = (placed[0][1],) if placed[0][1] else ()
        coarse = Later(partial(self.hypotheses, frame.camera, told.crop, told.before))
        return ObjectEstimate(told.detection, hypotheses, coarse, after.unknown, ambiguous, notes)

    def hypotheses(self, camera: Camera, crop: Crop, ranked: Ranked) -> tuple[Hypothesis, ...]:
        """Those that can be placed, best first."""
        found = []
        for i, mesh in enumerate(ranked.mesh_index):
            entry = self.library.entries[mesh]
            try:
                pose = self.place(mesh, ranked.rotation[i], ranked.displacement[i], crop, camera)
                if ranked.distance:
                    pose = farther(pose, np.asarray(entry.center), ranked.distance[i][0])
            except LiftError as error:
                logger.warning("detection %r: %s cannot be placed: %s", crop.detection.id, entry.id, error)
                continue
            found.append(
                Hypothesis(entry.id, entry.category, ranked.score[i], ranked.similarity[i], pose, ranked.margin[i])
            )
        return tuple(found)

    def place(
        self, mesh: int, rotation: torch.Tensor, displacement: torch.Tensor, crop: Crop, camera: Camera
    ) -> np.ndarray:
        """T_cam_obj [4, 4] metres of a mesh found at rotation [3, 3] and displacement [3] in a crop. Raises LiftError."""
        entry = self.library.entries[mesh]
        R_crop_obj = rotation.cpu().double().numpy()
        by_box = lift_translation(self.space.mesh(mesh).outline_points * entry.scale, R_crop_obj, crop, camera)
        translation = displaced(by_box, displacement.cpu().numpy(), crop)
        return pose_in_camera(R_crop_obj, translation, crop, np.asarray(entry.center))

    def by_depth(self, frame: Frame, mesh: int, T_cam_obj: np.ndarray) -> tuple[np.ndarray, str]:
        """A pose [4, 4] moved to where the frame's depth shows the mesh; and why it was not, where there is depth."""
        config = self.config.depth
        depth, reason = usable_depth(frame, config)
        if depth is None:
            return T_cam_obj, reason
        fit = refine_by_depth(self.surface(mesh), T_cam_obj, depth, frame.camera, config)
        return fit.T_cam_obj, fit.reason

    def surface(self, mesh: int) -> np.ndarray:
        """Points [N, 3] all over a mesh: metres, object frame."""
        entry = self.library.entries[mesh]
        return self.space.mesh(mesh).surface * entry.scale + np.asarray(entry.center)

    def outer_points(self, mesh: int) -> np.ndarray:
        """Points [K, 3] that may form a mesh's outline: metres, object frame."""
        entry = self.library.entries[mesh]
        return self.space.mesh(mesh).outline_points * entry.scale + np.asarray(entry.center)
