"""What the point encoder sees of a mesh: points of its surface, their normals and, where they are known, their colours."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from pasr_perception.geometry.viewpoints import up_rotation
from pasr_perception.library.sample import SurfaceSamples


@dataclass(frozen=True)
class PointCloud:
    """Samples of one mesh in its normalised frame, turned so that its up axis is +y."""

    points: torch.Tensor  # [N, 3] float32
    normals: torch.Tensor  # [N, 3] float32, unit, as the triangles are wound
    colours: torch.Tensor  # [N, 3] float32, albedo 0..1; 0 where it is unknown
    known: bool  # whether the colours are those of the real object

    @classmethod
    def of(cls, samples: SurfaceSamples, colours: np.ndarray | None, up: str = "+y") -> PointCloud:
        """From a mesh's samples, whose axis `up` is turned upwards; `colours` None: unknown."""
        points, normals = torch.as_tensor(samples.points), torch.as_tensor(samples.normals)
        shown = torch.zeros_like(points) if colours is None else torch.as_tensor(colours, dtype=torch.float32)
        cloud = cls(points, normals, shown, colours is not None)
        return cloud.turned(torch.as_tensor(up_rotation(up), dtype=torch.float32))

    def turned(self, rotation: torch.Tensor) -> PointCloud:
        """The same cloud with points and normals turned by a rotation [3, 3]."""
        return replace(self, points=self.points @ rotation.T, normals=self.normals @ rotation.T)
