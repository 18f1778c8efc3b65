"""Rendered views of a mesh for lifting: crop-like placement, headlight, and random looks where needed.

A mesh that has no colour of its own is shown under a new random texture in every view, so that the average keeps only what
its geometry causes (InexactCAD 3.1.1 recolours for the same reason).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import trimesh

from pasr_perception.geometry.placement import Placement, ViewSpec, place
from pasr_perception.library.meshes import MeshError
from pasr_perception.render.mesh import Hits, Raycaster, camera_rays, surface_colour, surface_normals, surface_points

AMBIENT = 0.5  # share of light that does not depend on the surface's slope


@dataclass(frozen=True)
class RenderedView:
    image: np.ndarray  # [S, S, 3] uint8 RGB
    depth: np.ndarray  # [S, S] float32 in normalised units, +inf where nothing is
    rotation: np.ndarray  # [3, 3] float32, R_crop_obj
    placement: Placement  # of this one view, batch of 1

    @property
    def is_empty(self) -> bool:
        """Whether it shows nothing: a plate seen from its edge may be met by no ray."""
        return not np.isfinite(self.depth).any()


def shown_pixels(view: RenderedView) -> tuple[int, int, int, int]:
    """Bounds of what a view shows: x_min, y_min, x_max, y_max, the latter two one beyond. Raises MeshError where it is empty."""
    if view.is_empty:
        raise MeshError("shows nothing in a view: its faces are too thin to be met by a ray")
    seen = np.isfinite(view.depth)
    v, u = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return int(u[0]), int(v[0]), int(u[-1]) + 1, int(v[-1]) + 1


def view_box(view: RenderedView) -> torch.Tensor:
    """The same bounds [4] in image sizes."""
    return torch.tensor(shown_pixels(view), dtype=torch.float32) / len(view.depth)


class RandomTexture:
    """A random solid texture: colour as a function of the surface point, blotchy at several scales, with hard and soft edges."""

    def __init__(self, rng: np.random.Generator) -> None:
        waves = int(rng.integers(3, 10))
        self._frequency = rng.normal(size=(waves, 3)) * np.exp(rng.uniform(np.log(1.0), np.log(14.0), (waves, 1)))
        self._phase = rng.uniform(0, 2 * np.pi, waves)
        self._amplitude = rng.normal(size=(waves, 3)) * 0.45
        self._base = rng.uniform(0.1, 0.9, 3)
        self._sharpness = float(np.exp(rng.uniform(np.log(0.7), np.log(12.0))))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Colours [M, 3] in 0..1 at normalised points [M, 3]."""
        wave = np.tanh(self._sharpness * np.sin(points @ self._frequency.T + self._phase))
        return np.clip(self._base + wave @ self._amplitude, 0.02, 1.0).astype(np.float32)


def random_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """What stands behind the object: one random colour [3] or a random picture [size, size, 3], half and half."""
    if rng.random() < 0.5:
        return rng.uniform(0, 1, 3)
    axis = np.linspace(-1, 1, size)
    x, y = np.meshgrid(axis, axis)
    points = np.stack([x, y, np.full_like(x, rng.normal())], -1).reshape(-1, 3)
    return RandomTexture(rng)(points).reshape(size, size, 3)


class ViewRenderer:
    """Renders one normalised mesh at crop-like placements."""

    def __init__(self, mesh: trimesh.Trimesh, view: ViewSpec, size: int, supersample: int) -> None:
        self._mesh, self._view, self._size, self._supersample = mesh, view, size, supersample
        self._caster = Raycaster(mesh)
        outline = np.asarray(mesh.vertices if len(mesh.vertices) < 5000 else mesh.convex_hull.vertices)
        self._outline = torch.as_tensor(outline, dtype=torch.float32)

    def render(
        self, rotation: np.ndarray, background: np.ndarray, texture: RandomTexture | None = None
    ) -> RenderedView:
        """One view; `background` is a colour [3] or an image [S, S, 3] in 0..1."""
        size, s = self._size, self._supersample
        placement = place(self._outline @ torch.as_tensor(rotation, dtype=torch.float32).T[None], self._view)
        offset, focal = placement.offset[0].numpy().astype(float), float(placement.focal[0]) * size
        K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
        rays = camera_rays(K, size, size, s)
        hits = self._cast(rays, rotation, offset)
        if texture is None:
            albedo = surface_colour(self._mesh, hits.triangle, hits.barycentric)
        else:
            albedo = texture(surface_points(self._mesh, hits.triangle, hits.barycentric))
        towards = rays[hits.ray] / np.linalg.norm(rays[hits.ray], axis=1, keepdims=True)
        slope = np.abs(np.einsum("md,md->m", surface_normals(self._mesh, hits) @ rotation.T, towards))
        fine = size * s
        image = np.broadcast_to(_enlarge(background, s), (fine, fine, 3)).astype(np.float32).reshape(-1, 3)
        image[hits.ray] = albedo * (AMBIENT + (1 - AMBIENT) * slope)[:, None]
        samples = image.reshape(size, s, size, s, 3)  # averaged slice by slice: numpy is slow over short axes
        image = np.mean([samples[:, i, :, j] for i in range(s) for j in range(s)], axis=0)
        depth = np.full(fine * fine, np.inf, np.float32)
        depth[hits.ray] = hits.distance
        depth = depth.reshape(size, s, size, s)[:, s // 2, :, s // 2]
        return RenderedView((image * 255).round().astype(np.uint8), depth, rotation.astype(np.float32), placement)

    def _cast(self, rays: np.ndarray, rotation: np.ndarray, offset: np.ndarray) -> Hits:
        """Cast only the rays [n, 3] that can meet the outline's bounds, which the placement has centred."""
        outline = self._outline.numpy() @ rotation.T + offset
        reach = np.abs(outline[:, :2] / outline[:, 2:]).max(0) * 1.01
        near = np.flatnonzero((np.abs(rays[:, 0]) <= reach[0]) & (np.abs(rays[:, 1]) <= reach[1]))
        hits = self._caster.cast(-offset @ rotation, rays[near] @ rotation)
        return replace(hits, ray=near[hits.ray])


def _enlarge(background: np.ndarray, factor: int) -> np.ndarray:
    return background if background.ndim == 1 else background.repeat(factor, 0).repeat(factor, 1)
