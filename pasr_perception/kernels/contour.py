"""What a crop shows along the contour of a silhouette, and on either side of it: the loops of `contour.contour_agreement`.

They run on the CPU whatever the device: a contour is some hundreds of pixels. Their twins are in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pasr_perception.kernels.compiled import floored, kernel, trial
from pasr_perception.kernels.cores import on_all_cores
from pasr_perception.kernels.distances import distances
from pasr_perception.kernels.placement import View, project_one
from pasr_perception.kernels.visit import Poses

BORDER = 14  # pixels around the crop that a silhouette may reach, and around a silhouette that are looked at
CLOSING = 4.0  # pixels: gaps between points that are twice as wide are closed
BAND = 12.0  # pixels on either side of the contour whose colours are compared
REACH = 4  # pixels to either side of the contour within which an edge counts
BLUR = 8.0  # pixels squared, an edge k pixels off counts exp(-k^2 / BLUR)
COUNTS = np.exp(-(np.arange(-REACH, REACH + 1) ** 2) / BLUR).astype(np.float32)  # so much, from -REACH to REACH
FAINT = 1.0  # units of CIELAB per pixel: an edge as strong as this counts half
SHADES = 16  # of red, green and blue each
NOWHERE = 1e-6  # length of a normal that has no direction


class Seen(NamedTuple):
    """What contours are compared with in one crop."""

    edges: np.ndarray  # [S, S, 3] float32: gradient in x and y of the channel that changes most, and its length
    shade: np.ndarray  # [S, S] int16, the colour's cell; -1 where the photo shows nothing, whose border is no contour


@kernel
def strongest_edges(smooth: np.ndarray, edges: np.ndarray) -> None:
    """Gradient in x and y (Scharr's) of the channel of smooth [S, S, 3] that changes most, and its length, to edges [S, S, 3]."""
    last, channels = smooth.shape[0] - 1, smooth.shape[2]
    for y in range(last + 1):
        above, below = max(y - 1, 0), min(y + 1, last)
        for x in range(last + 1):
            left, right = max(x - 1, 0), min(x + 1, last)
            edges[y, x, 2] = np.float32(-1)
            for c in range(channels):
                corner = smooth[below, right, c] - smooth[above, left, c]  # of one diagonal, and then of the other
                other = smooth[above, right, c] - smooth[below, left, c]
                across = (3 * (corner + other) + 10 * (smooth[y, right, c] - smooth[y, left, c])) / np.float32(32)
                down = (3 * (corner - other) + 10 * (smooth[below, x, c] - smooth[above, x, c])) / np.float32(32)
                square = across * across + down * down
                if square > edges[y, x, 2]:
                    edges[y, x, 0], edges[y, x, 1], edges[y, x, 2] = across, down, square
            edges[y, x, 2] = math.sqrt(edges[y, x, 2])


@kernel
def shades(small: np.ndarray, image: np.ndarray, nothing: np.ndarray, shade: np.ndarray) -> None:
    """The cell [S, S] of each colour of small [S, S, 3]; -1 there and next to it where image [L, L, 3] has the colour `nothing`."""
    size, large = small.shape[0], image.shape[0]
    width = 256 // SHADES
    for y in range(size):
        for x in range(size):
            red, green, blue = small[y, x, 0] // width, small[y, x, 1] // width, small[y, x, 2] // width
            shade[y, x] = (red * SHADES + green) * SHADES + blue
    for v in range(large):
        for u in range(large):
            if image[v, u, 0] == nothing[0] and image[v, u, 1] == nothing[1] and image[v, u, 2] == nothing[2]:
                y, x = v * size // large, u * size // large
                for j in range(max(y - 1, 0), min(y + 2, size)):
                    for i in range(max(x - 1, 0), min(x + 2, size)):
                        shade[j, i] = -1


@kernel
def _pixels(uv: np.ndarray, size: int, pixels: np.ndarray, number: np.ndarray, bounds: np.ndarray) -> None:
    """Which pixels hold points uv [N, 2], as far as `BORDER` around the crop: to pixels [M, 2], and how many to number [1].

    bounds [4] (left, top, right, bottom) are widened to them.
    """
    left, top, right, bottom, count = bounds[0], bounds[1], bounds[2], bounds[3], 0
    for i in range(uv.shape[0]):
        x, y = floored(uv[i, 0]), floored(uv[i, 1])
        if -BORDER <= x < size + BORDER and -BORDER <= y < size + BORDER:
            left, top, right, bottom = min(left, x), min(top, y), max(right, x), max(bottom, y)
            pixels[count, 0], pixels[count, 1] = x, y
            count += 1
    bounds[0], bounds[1], bounds[2], bounds[3] = left, top, right, bottom
    number[0] = count


@kernel
def _at_contour(
    inner: np.ndarray, column: int, row: int, x: int, y: int, edges: np.ndarray, shade: np.ndarray, fit: np.ndarray
) -> None:
    """How well the crop's edges fit one pixel of the contour, 0..1, added to fit [2], and that one more was seen; none is not.

    It is the crop's (x, y) and `inner[row, column]`.
    """
    normal_x, normal_y, size = np.float32(0), np.float32(0), edges.shape[0]
    for j in range(-2, 3):
        for i in range(-2, 3):
            normal_x += i * inner[row + j, column + i]
            normal_y += j * inner[row + j, column + i]
    length = math.sqrt(normal_x * normal_x + normal_y * normal_y)
    if length < NOWHERE:
        return
    normal_x /= length  # inwards
    normal_y /= length
    best = np.float32(-1)
    for k in range(-REACH, REACH + 1):
        i = math.floor(x + (k - 0.5) * normal_x + 0.5)  # the contour is half a pixel outside of its pixels' middles
        j = math.floor(y + (k - 0.5) * normal_y + 0.5)
        if 0 <= i < size and 0 <= j < size and shade[j, i] >= 0:
            across = abs(edges[j, i, 0] * normal_x + edges[j, i, 1] * normal_y)
            best = max(best, across / (edges[j, i, 2] + FAINT) * COUNTS[k + REACH])
    if best >= 0:
        fit[0] += best
        fit[1] += 1


@kernel
def _look_along(
    inner: np.ndarray,
    outer: np.ndarray,
    corner: np.ndarray,
    edges: np.ndarray,
    shade: np.ndarray,
    found: np.ndarray,
) -> None:
    """Edges along the contour and how colours differ across it, both 0..1, to found [3], with how many pixels say so.

    inner, outer [h, w] are how far pixels lie within the silhouette grown by `CLOSING`, and how far from the points: of a part of
    the crop that begins at corner [2]. edges [S, S, 3] and shade [S, S] are the crop's.
    """
    size, counts = edges.shape[0], np.zeros((2, SHADES**3), np.float32)
    fit, inside, outside = np.zeros(2, np.float32), np.float32(0), np.float32(0)
    for row in range(max(-corner[1], 0), min(inner.shape[0], size - corner[1])):
        for column in range(max(-corner[0], 0), min(inner.shape[1], size - corner[0])):
            x, y = column + corner[0], row + corner[1]
            if shade[y, x] < 0:
                continue
            depth = inner[row, column] - CLOSING
            if 0 < depth <= 1:
                _at_contour(inner, column, row, x, y, edges, shade, fit)
            elif 1 < depth < BAND:
                counts[0, shade[y, x]] += 1
                inside += 1
            elif depth <= 0 and 1 < outer[row, column] < BAND:
                counts[1, shade[y, x]] += 1
                outside += 1
    shared = np.float32(0)
    for i in range(counts.shape[1]):
        shared += math.sqrt(counts[0, i] * counts[1, i])
    found[0] = fit[0] / max(fit[1], np.float32(1))
    found[1] = 1 - shared / math.sqrt(max(inside * outside, np.float32(1)))
    found[2] = min(fit[1], inside, outside)


@kernel
def look(uv: np.ndarray, edges: np.ndarray, shade: np.ndarray, found: np.ndarray) -> None:
    """What one crop shows along the contour of points uv [N, 2] (pixels of `edges`), to found [3] as `_look_along` has it.

    The silhouette is closed over the gaps between points. What lies farther than `BORDER` from it, or off the crop, is not seen.
    """
    size, bounds = edges.shape[0], np.empty(4, np.int64)
    pixels, number = np.empty((uv.shape[0], 2), np.int32), np.empty(1, np.int64)
    bounds[:2], bounds[2:] = size + BORDER, -BORDER - 1
    _pixels(uv, size, pixels, number, bounds)
    found[:] = 0
    if bounds[2] < -BORDER:
        return
    corner = np.maximum(bounds[:2] - BORDER, -BORDER)
    shape = (bounds[3] + BORDER + 1 - corner[1], bounds[2] + BORDER + 1 - corner[0])
    marked, way = np.zeros(shape, np.bool_), np.empty((shape[0] + 5, shape[1] + 4), np.int32)
    outer, inner = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for i in range(number[0]):
        marked[pixels[i, 1] - corner[1], pixels[i, 0] - corner[0]] = True
    distances(marked, way, outer)
    for i in range(shape[0]):
        for j in range(shape[1]):
            marked[i, j] = outer[i, j] > CLOSING
    distances(marked, way, inner)
    _look_along(inner, outer, corner, edges, shade, found)


@kernel
def _look_at(
    points: np.ndarray,
    rotation: np.ndarray,
    moved: np.ndarray,
    view: tuple[float, float, int],
    edges: np.ndarray,
    shade: np.ndarray,
    found: np.ndarray,
) -> None:
    """`look` at points [N, 3] of the object at a pose."""
    uv, depth = np.empty((points.shape[0], 2), np.float32), np.empty(points.shape[0], np.float32)
    project_one(points, rotation, edges.shape[0], view, moved, uv, depth)
    look(uv, edges, shade, found)


def looks(poses: Poses, points: Sequence[np.ndarray], seen: Sequence[Seen], view: View) -> np.ndarray:
    """What crops show along the contours of H hypotheses [H, 3], each of points [N, 3] at a pose."""
    found, numbers = np.empty((len(points), 3), np.float32), (view.fill, view.distance, view.iterations)

    def one(h: int) -> None:
        edges, shade = seen[h]
        _look_at(points[h], poses.rotation[h], poses.moved[h], numbers, edges, shade, found[h])

    on_all_cores(one, len(found))
    return found


@trial
def _on_one_pixel() -> None:
    image = np.zeros((1, 1, 3), np.uint8)
    shades(image, image, np.ones(3, np.uint8), np.zeros((1, 1), np.int16))
    strongest_edges(np.zeros((1, 1, 3), np.float32), np.zeros((1, 1, 3), np.float32))
    edges, shade, point = np.zeros((1, 1, 3), np.float32), np.zeros((1, 1), np.int16), np.zeros((1, 3), np.float32)
    look(point[:, :2].copy(), edges, shade, np.zeros(3, np.float32))
    poses = Poses(np.eye(3, dtype=np.float32)[None], np.zeros((1, 3), np.float32))
    looks(poses, [point], [Seen(edges, shade)], View(0.8, 6.0, 1))
