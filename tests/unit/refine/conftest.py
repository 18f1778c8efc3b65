"""An ellipsoid whose features vary smoothly over the surface, as an encoder's do, and maps that show it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.se3 import exp_so3
from pasr_perception.geometry.viewpoints import random_rotations
from pasr_perception.refine import Boxes, Clouds, Hypotheses, Pose, RenderScene, splat_margin
from pasr_perception.render.splat import SplatConfig, splat

GRID, CHANNELS, POINTS = 16, 16, 700


@dataclass(frozen=True)
class Stage:
    """One cloud, and how it is seen."""

    clouds: Clouds
    scene: RenderScene

    def poses(self, count: int, seed: int) -> torch.Tensor:
        return torch.as_tensor(random_rotations(count, np.random.default_rng(seed)), dtype=torch.float32)

    def placed(self, pose: Pose) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels [H, N, 2] and depth [H, N] of the cloud."""
        rotated = self.clouds.points[0] @ pose.rotation.transpose(1, 2)
        uv, depth = project(rotated, place(rotated, self.scene.view), GRID)
        return pose.move(uv, GRID), depth

    def maps(self, pose: Pose, backdrop_seed: int | None = None) -> torch.Tensor:
        """Unit feature maps [H, D, g, g] of the cloud, before nothing or before noise."""
        image, mask = splat(*self.placed(pose), self.clouds.features[0], self.scene.splat)
        if backdrop_seed is not None:
            noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(backdrop_seed))
            image = torch.where(mask[:, None], image, noise)
        return torch.nn.functional.normalize(image, dim=1)

    def boxes(self, pose: Pose, of_splat: bool = True) -> Boxes:
        """Around what the maps show, which is a splat, or around the points."""
        grown = Pose(pose.rotation, pose.shift, pose.log_scale + of_splat * splat_margin(self.scene))
        uv = self.placed(grown)[0] / GRID
        return Boxes(torch.cat([uv.amin(1), uv.amax(1)], 1), torch.zeros(len(uv), 4, dtype=torch.bool))

    def start(self, truth: Pose, degrees: float, seed: int, of_splat: bool = True) -> Hypotheses:
        """Rotations that are `degrees` off the truth, one crop each, with boxes as `boxes` makes them."""
        axis = torch.randn(len(truth.rotation), 3, generator=torch.Generator().manual_seed(seed))
        tangent = torch.nn.functional.normalize(axis, dim=1) * np.radians(degrees)
        count = torch.arange(len(truth.rotation))
        return Hypotheses(
            exp_so3(tangent) @ truth.rotation, torch.zeros_like(count), count, self.boxes(truth, of_splat)
        )

    def off_degrees(self, rotation: torch.Tensor, truth: Pose) -> torch.Tensor:
        cosine = ((rotation.transpose(1, 2) @ truth.rotation).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
        return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))


@pytest.fixture(scope="session")
def stage() -> Stage:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(POINTS, 3))
    points = torch.as_tensor(points / np.linalg.norm(points, axis=1, keepdims=True), dtype=torch.float32)
    waves = torch.randn(3, CHANNELS, generator=torch.Generator().manual_seed(1)) * 2
    features = torch.nn.functional.normalize(torch.cos(points @ waves), dim=1)
    clouds = Clouds((points * torch.tensor([0.4, 0.6, 0.9]))[None], features[None])
    return Stage(clouds, RenderScene(ViewSpec(), SplatConfig(GRID, 0.12, 8, 0.3)))
