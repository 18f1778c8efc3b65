"""The placement by outline, and where it puts a cloud's points in the crop.

Twins: `geometry.placement` as it is on CUDA, and `refine.similarity.projected` where gradients are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pasr_perception.kernels.compiled import kernel, trial
from pasr_perception.kernels.cores import on_all_cores


@dataclass(frozen=True)
class View:
    """What a placement is made by: `geometry.placement.ViewSpec` and its fixed point, in numbers."""

    fill: float
    distance: float
    iterations: int


@dataclass(frozen=True)
class Moved:
    """H clouds that are turned, placed by their outlines, and moved over an image of `size` pixels."""

    points: np.ndarray  # [C, N, 3] float32
    cloud: np.ndarray  # [H] int64 into the points
    rotation: np.ndarray  # [H, 3, 3] float32
    shift: np.ndarray  # [H, 2] float32, crop sizes
    log_scale: np.ndarray  # [H] float32
    size: int


@kernel
def turn(points: np.ndarray, rotation: np.ndarray, rotated: np.ndarray) -> None:
    """One cloud's points [N, 3], turned by rotation [3, 3], to rotated [N, 3]."""
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for k in range(3):
            rotated[i, k] = rotation[k, 0] * x + rotation[k, 1] * y + rotation[k, 2] * z


@kernel
def place_one(rotated: np.ndarray, fill: float, distance: float, iterations: int, out: np.ndarray) -> None:
    """Aim x, aim y and zoom of one cloud's points [N, 3] to out [3]."""
    away, half = np.float32(distance), np.float32(0.5)
    aim_x, aim_y, longer = np.float32(0), np.float32(0), np.float32(0)
    for _ in range(iterations):
        low_x, low_y, high_x, high_y = np.float32(np.inf), np.float32(np.inf), np.float32(-np.inf), np.float32(-np.inf)
        for i in range(rotated.shape[0]):
            near = np.float32(1) / (rotated[i, 2] + away)
            x, y = (rotated[i, 0] + aim_x) * near, (rotated[i, 1] + aim_y) * near
            low_x, high_x = min(low_x, x), max(high_x, x)
            low_y, high_y = min(low_y, y), max(high_y, y)
        aim_x -= (low_x + high_x) * half * away
        aim_y -= (low_y + high_y) * half * away
        longer = max(high_x - low_x, high_y - low_y)
    out[0], out[1], out[2] = aim_x, aim_y, np.float32(fill) / max(longer, np.float32(1e-6))


@kernel
def project_one(
    points: np.ndarray,
    rotation: np.ndarray,
    size: int,
    view: tuple[float, float, int],
    moved: np.ndarray,
    uv: np.ndarray,
    depth: np.ndarray,
) -> None:
    """One cloud: points [N, 3] to uv [N, 2] and depth [N]; moved [3] are shift and log scale."""
    rotated, placement = np.empty_like(points), np.empty(3, np.float32)
    turn(points, rotation, rotated)
    place_one(rotated, view[0], view[1], view[2], placement)
    away, half, pixels = np.float32(view[1]), np.float32(0.5), np.float32(size)
    zoom = placement[2] * pixels * np.exp(moved[2])
    middle_x, middle_y = (moved[0] + half) * pixels, (moved[1] + half) * pixels
    for i in range(points.shape[0]):
        z = rotated[i, 2] + away
        scale = zoom / z
        uv[i, 0] = (rotated[i, 0] + placement[0]) * scale + middle_x
        uv[i, 1] = (rotated[i, 1] + placement[1]) * scale + middle_y
        depth[i] = z


def place(rotated: np.ndarray, view: View) -> np.ndarray:
    """Aim x, aim y and zoom [B, 3] float32 of rotated points [B, N, 3] float32."""
    out = np.empty((len(rotated), 3), np.float32)
    for points, placement in zip(np.ascontiguousarray(rotated), out, strict=True):
        place_one(points, view.fill, view.distance, view.iterations, placement)
    return out


def project(moved: Moved, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [H, N, 2] and depth [H, N], float32."""
    numbers, shape = (view.fill, view.distance, view.iterations), (len(moved.cloud), moved.points.shape[1])
    uv, depth = np.empty((*shape, 2), np.float32), np.empty(shape, np.float32)
    by = np.concatenate([moved.shift, moved.log_scale[:, None]], 1)
    # a kernel is compiled anew for every other layout: not while a frame waits
    points, rotation = np.ascontiguousarray(moved.points), np.ascontiguousarray(moved.rotation)

    def one(h: int) -> None:
        project_one(points[moved.cloud[h]], rotation[h], moved.size, numbers, by[h], uv[h], depth[h])

    on_all_cores(one, len(uv))
    return uv, depth


@trial
def _on_one_point() -> None:
    point, eye = np.zeros((1, 1, 3), np.float32), np.eye(3, dtype=np.float32)[None]
    view, none = View(0.8, 6.0, 1), np.zeros(1, np.float32)
    place(point, view)
    project(Moved(point, np.zeros(1, np.int64), eye, np.zeros((1, 2), np.float32), none, 1), view)
