"""Ray-cast rendering of triangle meshes with embree: colour, depth, mask and normals without any GL context.

Used offline only: for the library's views (InexactCAD 3.1.2) and for simulated photos. Shading is the caller's choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

DEFAULT_GREY = 0.7  # albedo of a surface that has no colour of its own


@dataclass(frozen=True)
class Hits:
    """Where rays first meet the surface."""

    ray: np.ndarray  # [M] int, index of the ray
    triangle: np.ndarray  # [M] int
    barycentric: np.ndarray  # [M, 3] float, of the triangle's corners
    distance: np.ndarray  # [M] float, in lengths of the ray's direction vector


class Raycaster:
    """An embree scene of one mesh; rays and answers are in the mesh's own frame."""

    def __init__(self, mesh: trimesh.Trimesh) -> None:
        self.mesh = mesh
        # embree works in float32: centre and scale to keep its precision whatever the mesh's unit
        self._origin = mesh.bounds.mean(0)
        self._scale = 1.0 / max(float(mesh.extents.max()), 1e-12)
        self._scene = rtcore_scene.EmbreeScene()
        vertices = ((mesh.vertices - self._origin) * self._scale).astype(np.float32)
        TriangleMesh(self._scene, vertices, np.ascontiguousarray(mesh.faces, dtype=np.int32))

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """First hits of rays: origins [N, 3] (or [3]) and directions [N, 3], any length."""
        origins = np.broadcast_to((origins - self._origin) * self._scale, directions.shape).astype(np.float32)
        scaled = (directions * self._scale).astype(np.float32)
        found = self._scene.run(np.ascontiguousarray(origins), np.ascontiguousarray(scaled), output=1)
        ray = np.flatnonzero(found["primID"] >= 0)
        u, v = found["u"][ray], found["v"][ray]
        return Hits(ray, found["primID"][ray].astype(np.int64), np.stack([1 - u - v, u, v], -1), found["tfar"][ray])


def surface_normals(mesh: trimesh.Trimesh, hits: Hits) -> np.ndarray:
    """Face normals [M, 3] at the hits (not turned towards the viewer: CAD faces are often flipped)."""
    return np.asarray(mesh.face_normals[hits.triangle])


def surface_points(mesh: trimesh.Trimesh, triangle: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    """Points [M, 3] on triangles [M] at barycentric coordinates [M, 3]."""
    return np.einsum("mk,mkd->md", barycentric, mesh.vertices[mesh.faces[triangle]])


def surface_colour(mesh: trimesh.Trimesh, triangle: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    """Albedo [M, 3] float32 in 0..1 at surface points: texture, else vertex or face colours, else the material's, else grey."""
    visual = mesh.visual
    corners = mesh.faces[triangle]
    if isinstance(visual, trimesh.visual.TextureVisuals):
        return _texture_colour(visual, corners, barycentric)
    if visual.kind == "vertex":
        colours = np.asarray(visual.vertex_colors)[corners, :3].astype(np.float32) / 255
        return np.einsum("mk,mkd->md", barycentric.astype(np.float32), colours)
    if visual.kind == "face":
        return np.asarray(visual.face_colors)[triangle, :3].astype(np.float32) / 255
    return np.full((len(triangle), 3), DEFAULT_GREY, np.float32)


def _texture_colour(visual: trimesh.visual.TextureVisuals, corners: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    material = visual.material
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        image, factor = material.baseColorTexture, material.baseColorFactor
        base = np.ones(3, np.float32) if factor is None else np.asarray(factor, np.float32)[:3] / 255
    else:
        image = getattr(material, "image", None)
        base = np.ones(3, np.float32) if image is not None else np.asarray(material.main_color[:3], np.float32) / 255
    if image is None or visual.uv is None:
        return np.broadcast_to(base, (len(corners), 3)).astype(np.float32)
    uv = np.einsum("mk,mkd->md", barycentric, np.asarray(visual.uv)[corners])
    texels = np.asarray(image.convert("RGB"))
    height, width = texels.shape[:2]
    column = np.floor(np.nan_to_num(uv[:, 0]) * width).astype(np.int64) % width
    row = np.floor((1 - np.nan_to_num(uv[:, 1])) * height).astype(np.int64) % height
    return texels[row, column].astype(np.float32) / 255 * base


def camera_rays(K: np.ndarray, width: int, height: int, supersample: int) -> np.ndarray:
    """Directions [H*s * W*s, 3] with z = 1 through the centres of an s-times finer pixel grid."""
    u = (np.arange(width * supersample) + 0.5) / supersample
    v = (np.arange(height * supersample) + 0.5) / supersample
    x, y = np.meshgrid((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1])
    return np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
