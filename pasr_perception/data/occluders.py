"""Boards that pass in front of single objects of a simulated scene and hide them for a while, wholly.

A board is a flat textured rectangle that slides in from one side, stands between the camera and its object, and slides out
again. It is drawn into the rendered picture, so the objects themselves stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pasr_perception.data.scene_render import NOTHING, SUPERSAMPLE, SceneView
from pasr_perception.types import Camera

SLIDE_S = 0.3  # that a board takes to come, and to go
DURATIONS = (1.0, 3.0)  # s that it hides all of its object
MARGIN = 1.3  # sides of the board over those of the object's box
STRIPES = 6  # of two shades, across the board
QUIET = 0.1  # share of the film at either end without boards


@dataclass(frozen=True)
class Board:
    """One occlusion."""

    object: int  # index in the scene
    begin: float  # s from the start of the film, when it stands in front of its object
    duration: float  # s
    side: float  # -1 or 1: from which side it comes, and to which it goes
    colours: np.ndarray  # [2, 3] linear

    def offset(self, time: float) -> float | None:
        """How far from its object it is at `time`, in widths of the board; None where it is not in the picture."""
        if self.begin <= time <= self.begin + self.duration:
            return 0.0
        before, after = self.begin - time, time - self.begin - self.duration
        away = max(before, after) / SLIDE_S
        return None if away > 1 else self.side * away * 1.5


def plan_boards(count: int, objects: int, seconds: float, rng: np.random.Generator) -> tuple[Board, ...]:
    """`count` occlusions one after the other, going round the objects in random order."""
    order = np.concatenate([rng.permutation(objects) for _ in range(-(-count // objects))])[:count]
    slot = (1 - 2 * QUIET) * seconds / max(count, 1)
    boards = []
    for number, index in enumerate(order):
        duration = min(float(rng.uniform(*DURATIONS)), max(slot - 2 * SLIDE_S, 0.1))
        begin = QUIET * seconds + number * slot + SLIDE_S
        colours = rng.uniform(0.05, 0.7, 3) * np.array([[1.0], [0.6]])
        boards.append(Board(int(index), begin, duration, float(rng.choice([-1, 1])), colours))
    return tuple(boards)


def object_box(corners: np.ndarray, camera: Camera) -> np.ndarray:
    """Pixels [4] xyxy around the projected corners [N, 3] (camera axes) of an object's bounds."""
    uv = corners @ camera.K.T
    uv = uv[:, :2] / np.maximum(uv[:, 2:], 1e-6)
    return np.concatenate([uv.min(0), uv.max(0)])


def cover(
    view: SceneView, boards: Sequence[Board], boxes: Sequence[np.ndarray], time: float, camera: Camera
) -> SceneView:
    """The picture with the boards of `time`; boxes [4] are those of the scene's objects."""
    for board in boards:
        offset = board.offset(time)
        if offset is None:
            continue
        box = boxes[board.object]
        middle, half = (box[:2] + box[2:]) / 2, MARGIN * (box[2:] - box[:2]) / 2
        middle = middle + np.array([2 * offset * half[0], 0])
        view = _drawn(view, np.concatenate([middle - half, middle + half]), board, camera)
    return view


def _drawn(view: SceneView, box: np.ndarray, board: Board, camera: Camera) -> SceneView:
    limit = (camera.width, camera.height)
    x0, y0 = (int(np.clip(np.floor(v), 0, n)) for v, n in zip(box[:2], limit, strict=True))
    x1, y1 = (int(np.clip(np.ceil(v), 0, n)) for v, n in zip(box[2:], limit, strict=True))
    if x1 <= x0 or y1 <= y0:
        return view
    radiance, instance, depth = view.radiance.copy(), view.instance.copy(), view.depth.copy()
    phase = ((np.arange(x0, x1) + 0.5 - box[0]) / (box[2] - box[0]) * STRIPES).astype(int) % 2
    board_pixels = np.repeat(board.colours[phase][None], y1 - y0, axis=0)
    radiance[y0:y1, x0:x1] = cv2.GaussianBlur(board_pixels.astype(np.float32), (3, 3), 0)
    instance[y0 * SUPERSAMPLE : y1 * SUPERSAMPLE, x0 * SUPERSAMPLE : x1 * SUPERSAMPLE] = NOTHING
    depth[y0:y1, x0:x1] = 0.6 * float(np.min(depth[y0:y1, x0:x1]))
    return replace(view, radiance=radiance, instance=instance, depth=depth)
