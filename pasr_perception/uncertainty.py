"""The covariance of every detection's best pose: refinement's unknowns (`refine/covariance.py`) through lift and symmetry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pasr_perception.coarse import quarter_turns
from pasr_perception.config import RefineConfig
from pasr_perception.geometry.covariance import covariance_of_origin, settled_along
from pasr_perception.library.resident import ResidentLibrary
from pasr_perception.library.store import MeshLibrary
from pasr_perception.lift import LiftError
from pasr_perception.rank import Ranked
from pasr_perception.refine import Boxes, Hypotheses, Pose, RenderScene, splat_margin
from pasr_perception.refine.covariance import Noise, pose_rate, spun, turned_back, unknowns_covariance
from pasr_perception.refine.template import Problem
from pasr_perception.types import Camera, Crop


@dataclass(frozen=True)
class Uncertainty:
    """Called with ranked hypotheses and the crops that they explain."""

    library: MeshLibrary
    space: ResidentLibrary
    scene: RenderScene

    def __call__(
        self, ranked: Sequence[Ranked], maps: torch.Tensor, crops: Sequence[Crop], camera: Camera, config: RefineConfig
    ) -> list[np.ndarray | None]:
        """Of each crop's best pose [6, 6], as `Hypothesis` has it; None where it cannot be placed.

        maps [B, T, D, g, g] are those of `Pipeline.encode`.
        """
        meshes, cloud = torch.unique(torch.tensor([r.mesh_index[0] for r in ranked]), return_inverse=True)
        turn = torch.tensor([r.turn[0] for r in ranked], device=maps.device)
        back = quarter_turns(turn)
        rotation = back.transpose(1, 2) @ torch.stack([r.rotation[0] for r in ranked]).to(maps.device)
        reached = self._reached(rotation, torch.stack([r.displacement[0] for r in ranked]).to(maps.device), back)
        boxes = Boxes.of(crops, maps.device).turned(turn)
        crop = torch.arange(len(crops), device=maps.device) * maps.shape[1] + turn
        start = Hypotheses(rotation, cloud.to(maps.device), crop, boxes)
        clouds = self.space.clouds(meshes.tolist())
        problem = Problem.of(start, clouds, maps.flatten(0, 1), self.scene, config)
        found = unknowns_covariance(problem, reached, boxes, Noise())
        unknowns = turned_back(found, back.double()).cpu().numpy()
        return [self._of_pose(*each, camera) for each in zip(unknowns, ranked, crops, strict=True)]

    def _reached(self, rotation: torch.Tensor, displacement: torch.Tensor, back: torch.Tensor) -> Pose:
        """Where refinement ended, in the turned crops, of what is told of crops as they were."""
        shift = (back[:, :2, :2].transpose(1, 2) @ displacement[:, :2, None])[..., 0]
        log_scale = displacement[:, 2] - splat_margin(self.scene) * (displacement[:, 2] != 0)
        return Pose(rotation, shift, log_scale)

    def _of_pose(self, unknowns: np.ndarray, ranked: Ranked, crop: Crop, camera: Camera) -> np.ndarray | None:
        mesh = ranked.mesh_index[0]
        entry, points = self.library.entries[mesh], self.space.mesh(mesh).outline_points
        R_crop_obj = ranked.rotation[0].cpu().double().numpy()
        try:
            rate = pose_rate(R_crop_obj, ranked.displacement[0].cpu().numpy(), points * entry.scale, crop, camera)
        except LiftError:
            return None
        R_cam_obj = crop.R_cam_crop @ R_crop_obj
        axes = np.asarray(entry.symmetry.continuous_axes, np.float64).reshape(-1, 3)
        C = spun(rate @ unknowns @ rate.T, axes @ R_cam_obj.T)
        if ranked.distance and np.isfinite(ranked.distance[0][1]):
            factor, noise = ranked.distance[0]
            middle = -rate[:3, 5] * factor  # a larger scale moves it towards the camera
            far = float(np.linalg.norm(middle))
            C = settled_along(C, middle / far, (noise * far) ** 2)
        C = covariance_of_origin(C, R_cam_obj, np.asarray(entry.center))
        return (C + C.T) / 2  # rounding left it not quite symmetric
