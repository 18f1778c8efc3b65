"""Meshes standing on a floor, close together but never inside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.spatial import ConvexHull, QhullError

from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.viewpoints import up_rotation

# +Y of the canonical frame is up; the world's up is +Z
R_WORLD_CANONICAL = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
SIZE_RATIO = 2.5  # objects of one scene are at most this much larger or smaller than the first one chosen
DIRECTIONS = 9  # tried around the pile for every object
STEP = 0.06  # of the object's radius, when it moves outwards until it fits


@dataclass(frozen=True)
class SceneMesh:
    """A mesh that may appear in scenes; vertices in metres."""

    id: str
    mesh: trimesh.Trimesh
    up: str = "+y"

    @property
    def diameter(self) -> float:
        return float(np.linalg.norm(self.mesh.extents))


@dataclass(frozen=True)
class PlacedMesh:
    """One object of a scene."""

    id: str
    source: SceneMesh
    T_world_obj: np.ndarray  # [4, 4] float64; the floor is z = 0, +z is up


def choose_group(diameters: Sequence[float], count: int, used: set[int], rng: np.random.Generator) -> list[int]:
    """Indices of `count` meshes of comparable size, those not in `used` first; some twice if there are too few."""
    sizes = np.log(np.asarray(diameters))
    fresh = [i for i in range(len(sizes)) if i not in used] or list(range(len(sizes)))
    distance = np.abs(sizes - sizes[int(rng.choice(fresh))])
    near = np.flatnonzero(distance <= math.log(SIZE_RATIO))
    if len(near) < count:
        near = np.argsort(distance, kind="stable")[:count]
    order = sorted(rng.permutation(near), key=lambda i: int(i) in used)
    repeated = order * math.ceil(count / len(order))
    return [int(i) for i in repeated[:count]]


def standing(item: SceneMesh, yaw: float) -> np.ndarray:
    """T_world_obj [4, 4]: upright on the floor, turned by `yaw`, the middle of its bounds above the origin."""
    c, s = math.cos(yaw), math.sin(yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    R_world_obj = turn @ R_WORLD_CANONICAL @ up_rotation(item.up)
    vertices = np.asarray(item.mesh.vertices) @ R_world_obj.T
    low, high = vertices.min(0), vertices.max(0)
    return make_T(R_world_obj, -np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]))


def footprint(item: SceneMesh, T_world_obj: np.ndarray) -> np.ndarray:
    """Convex outline [N, 2] of the mesh seen from above, counter-clockwise."""
    flat = (np.asarray(item.mesh.vertices) @ T_world_obj[:3, :3].T + T_world_obj[:3, 3])[:, :2]
    try:
        return flat[ConvexHull(flat).vertices]
    except QhullError:  # flat as a sheet seen from its edge: its bounds serve
        (x0, y0), (x1, y1) = flat.min(0) - 1e-3, flat.max(0) + 1e-3
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """Largest separation of two convex outlines along any of their edge normals; negative where they overlap."""
    edges = np.concatenate([np.roll(a, -1, 0) - a, np.roll(b, -1, 0) - b])
    normals = np.stack([edges[:, 1], -edges[:, 0]], -1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    on_a, on_b = normals @ a.T, normals @ b.T
    return float(np.maximum(on_b.min(1) - on_a.max(1), on_a.min(1) - on_b.max(1)).max())


def arrange(items: Sequence[SceneMesh], spacing: float, rng: np.random.Generator) -> list[PlacedMesh]:
    """Put the meshes down one by one as near to the middle as they fit, then pull them apart by `spacing` >= 1."""
    placed: list[PlacedMesh] = []
    outlines: list[np.ndarray] = []
    for number, item in enumerate(items):
        T = standing(item, float(rng.uniform(0, 2 * math.pi)))
        outline = footprint(item, T)
        margin = 0.03 * item.diameter
        starts = rng.uniform(0, 2 * math.pi) + np.arange(DIRECTIONS) * 2 * math.pi / DIRECTIONS
        spots = [_slide_out(outline, outlines, angle, margin) for angle in starts]
        # among the nearest third of the spots any will do, so that scenes differ
        spots.sort(key=lambda spot: float(np.linalg.norm(spot)))
        at = spots[int(rng.integers(0, DIRECTIONS // 3))]
        outlines.append(outline + at)
        T[:2, 3] += at * spacing
        placed.append(PlacedMesh(f"{number:02d}", item, T))
    middle = np.mean([p.T_world_obj[:2, 3] for p in placed], axis=0)
    for p in placed:
        p.T_world_obj[:2, 3] -= middle
    return placed


def _slide_out(outline: np.ndarray, others: Sequence[np.ndarray], angle: float, margin: float) -> np.ndarray:
    """First offset [2] from the middle in direction `angle` where `outline` keeps `margin` to all others."""
    direction = np.array([math.cos(angle), math.sin(angle)])
    step = STEP * float(np.linalg.norm(np.ptp(outline, axis=0)))
    offset = 0.0
    while any(gap(outline + direction * offset, other) < margin for other in others):
        offset += step
    return direction * offset
