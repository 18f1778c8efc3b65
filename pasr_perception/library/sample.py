"""Surface samples in the normalised frame (PASR supplementary A: 4096 area-weighted points, unit size)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh

from pasr_perception.render.mesh import surface_colour


@dataclass(frozen=True)
class Normalisation:
    """p_norm = (p_obj - center) / scale, so that every point of the mesh has length 1 at most."""

    center: np.ndarray  # [3] metres, middle of the bounding box
    scale: float  # metres, half the bounding box's diagonal


@dataclass(frozen=True)
class SurfaceSamples:
    points: np.ndarray  # [N, 3] float32, normalised frame
    normals: np.ndarray  # [N, 3] float32, of the triangles as they are wound
    triangle: np.ndarray  # [N] int64, the triangle that each lies on


def normalisation(mesh: trimesh.Trimesh) -> Normalisation:
    """The normalised frame of a mesh in metres."""
    return Normalisation(mesh.bounds.mean(0), float(np.linalg.norm(mesh.extents)) / 2)


def normalised(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """A copy of the mesh in its normalised frame, colours kept."""
    frame = normalisation(mesh)
    copy = mesh.copy()
    copy.apply_translation(-frame.center)
    copy.apply_scale(1 / frame.scale)
    return copy


def sample_surface(mesh: trimesh.Trimesh, count: int, seed: int) -> SurfaceSamples:
    """`count` area-weighted points of a (normalised) mesh."""
    points, faces = trimesh.sample.sample_surface(mesh, count, seed=seed)
    return SurfaceSamples(np.asarray(points, np.float32), np.asarray(mesh.face_normals[faces], np.float32), faces)


def sample_colours(mesh: trimesh.Trimesh, samples: SurfaceSamples) -> np.ndarray:
    """Albedo [N, 3] float32 in 0..1 of a mesh's own samples."""
    corners = mesh.triangles[samples.triangle]
    barycentric = trimesh.triangles.points_to_barycentric(corners, samples.points.astype(np.float64))
    return np.asarray(surface_colour(mesh, samples.triangle, barycentric), np.float32)
