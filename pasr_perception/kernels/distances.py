"""How far every pixel is from the nearest marked one: chamfer distances (Borgefors 1986) of 5 x 5 pixels, as of OpenCV's `DIST_L2`.

OpenCV's takes as long, but calling it twice, and what lies between, would ask for Python's lock. It is the twin in the tests.
"""

from __future__ import annotations

import numpy as np

from pasr_perception.kernels.compiled import kernel

STRAIGHT, DIAGONAL, KNIGHT = 65536, 91750, 143976  # lengths of moves: 1, 1.4, 2.1969 in 16 bits behind the point
FAR = (2**31 - 1) // 4
FRAME = 2  # pixels around that moves may come from


@kernel
def _by_rows(near: np.ndarray, off: np.ndarray, row: np.ndarray) -> None:
    """The shortest ways to the pixels of a row by moves from the rows one and two pixels away, all [w + 4]."""
    for j in range(row.shape[0] - 2 * FRAME):  # to pixel j + FRAME: an index that may be negative costs a look
        knight = min(min(off[j + 1], off[j + 3]), min(near[j], near[j + 4])) + np.int32(KNIGHT)
        diagonal, straight = min(near[j + 1], near[j + 3]) + np.int32(DIAGONAL), near[j + 2] + np.int32(STRAIGHT)
        row[j + 2] = min(min(knight, diagonal), straight)


@kernel
def distances(marked: np.ndarray, way: np.ndarray, out: np.ndarray) -> None:
    """Of pixels [h, w] bool, to out [h, w] float32; way [h + 5, w + 4] int32 is scratch. Far beyond any where none is marked."""
    height, width = marked.shape
    straight, far, out_of_fixed = np.int32(STRAIGHT), np.int32(FAR), np.float32(1 / STRAIGHT)
    way[:FRAME], way[height + FRAME :], way[:, :FRAME], way[:, width + FRAME :] = far, far, far, far
    for i in range(height):
        here = way[i + FRAME]
        _by_rows(way[i + 1], way[i], here)
        for j in range(width):
            if marked[i, j]:
                here[j + FRAME] = 0
        left = far
        for j in range(width):
            left = min(here[j + FRAME], left + straight)
            here[j + FRAME] = left
    back = way[height + 2 * FRAME]
    for i in range(height - 1, -1, -1):
        here = way[i + FRAME]
        _by_rows(way[i + 3], way[i + 4], back)
        right = far
        for k in range(width):
            j = width - 1 - k
            right = min(min(here[j + FRAME], back[j + FRAME]), right + straight)
            here[j + FRAME] = right
            out[i, j] = np.float32(right) * out_of_fixed
