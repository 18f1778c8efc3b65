"""An object's outline and how it goes with the rotation. Twin: `refine.outline.outline` as it is on CUDA."""

from __future__ import annotations

import numpy as np

from pasr_perception.kernels.compiled import kernel, trial
from pasr_perception.kernels.placement import View, place_one, turn


@kernel
def outline_one(
    outer: np.ndarray,
    rotation: np.ndarray,
    view: tuple[float, float, int],
    placed: np.ndarray,
    offset_rate: np.ndarray,
    zoom_rate: np.ndarray,
    edges: np.ndarray,
    edges_rate: np.ndarray,
) -> None:
    """One object: outer [K, 3] to placed [4] (offset, focal), offset_rate [2, 3], zoom_rate [3], edges [4], edges_rate [4, 3]."""
    rotated, half = np.empty_like(outer), np.float32(0.5)
    turn(outer, rotation, rotated)
    aim = np.empty(3, np.float32)
    place_one(rotated, view[0], view[1], view[2], aim)
    placed[0], placed[1], placed[2], placed[3] = aim[0], aim[1], np.float32(view[1]), aim[2]
    forming, edge = np.zeros(4, np.int64), np.empty(4, np.float32)
    for i in range(rotated.shape[0]):
        near = np.float32(1) / (rotated[i, 2] + placed[2])
        for axis in range(2):
            at = (rotated[i, axis] + aim[axis]) * near
            if i == 0 or at < edge[axis]:
                edge[axis], forming[axis] = at, i
            if i == 0 or at > edge[axis + 2]:
                edge[axis + 2], forming[axis + 2] = at, i
    rate, near = np.empty((4, 3), np.float32), np.empty(4, np.float32)
    for e in range(4):  # of the image points at a fixed aim, `refine.outline.image_rate`
        p, at = rotated[forming[e]], edge[e]
        near[e] = np.float32(1) / (p[2] + placed[2])
        if e % 2 == 0:
            rate[e, 0], rate[e, 1], rate[e, 2] = -at * p[1] * near[e], (p[2] + at * p[0]) * near[e], -p[1] * near[e]
        else:
            rate[e, 0], rate[e, 1], rate[e, 2] = -(p[2] + at * p[1]) * near[e], at * p[0] * near[e], p[0] * near[e]
    wide, high = edge[2] - edge[0], edge[3] - edge[1]
    longer = 1 if high > wide else 0
    extent = max(high if high > wide else wide, np.float32(1e-6))
    for k in range(3):
        for axis in range(2):  # the aim follows so that opposite edges stay opposite
            follows = -(rate[axis, k] + rate[axis + 2, k]) / (near[axis] + near[axis + 2])
            offset_rate[axis, k] = follows
            rate[axis, k] += follows * near[axis]
            rate[axis + 2, k] += follows * near[axis + 2]
        zoom_rate[k] = -(rate[longer + 2, k] - rate[longer, k]) / extent
        for e in range(4):
            edges_rate[e, k] = aim[2] * (rate[e, k] + edge[e] * zoom_rate[k])
    for e in range(4):
        edges[e] = half + aim[2] * edge[e]


def outlines(outer: np.ndarray, rotation: np.ndarray, view: View) -> tuple[np.ndarray, ...]:
    """Of outer points [H, K, 3] at rotations [H, 3, 3], all float32.

    Offset and focal [H, 4], rates of the offset [H, 2, 3] and of log focal [H, 3], edges [H, 4] in crop sizes, and their
    rates [H, 4, 3].
    """
    shapes = (4,), (2, 3), (3,), (4,), (4, 3)
    found = tuple(np.empty((len(rotation), *shape), np.float32) for shape in shapes)
    numbers = (view.fill, view.distance, view.iterations)
    for h in range(len(rotation)):
        outline_one(outer[h], rotation[h], numbers, *(out[h] for out in found))
    return found


@trial
def _on_one_point() -> None:
    outlines(np.zeros((1, 1, 3), np.float32), np.eye(3, dtype=np.float32)[None], View(0.8, 6.0, 1))
