"""Several textures in one picture: what a mesh with many materials needs to become one mesh with one material.

Texture coordinates may repeat a texture (tiled wood, fabric). Every face is moved to start inside the first tile, and
the picture holds as many tiles as the longest face needs; where that is more than is worth storing, the texture's mean
colour stands for it, which is what it looks like from that far anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_ATLAS = 4096  # pixels per side
MAX_CELL = 1024  # pixels per side of one texture's cell, all its tiles together
MAX_TILES = 64  # per axis; more than this is drawn as the mean colour
COLOUR_CELL = 4  # pixels per side of a plain colour's cell
PADDING = 4  # pixels around each cell that repeat its border, against bleeding when the picture is filtered
UV_SLACK = 1e-4  # of a tile: coordinates written as 1.00001 do not need a second tile


@dataclass(frozen=True)
class Patch:
    """One texture (or plain colour) and the corners that use it."""

    image: np.ndarray  # [h, w, 3] uint8, top row first
    uv: np.ndarray  # [V, 2] float64, v up, may leave [0, 1]
    faces: np.ndarray  # [F, 3] int64 into uv


@dataclass(frozen=True)
class Unwrapped:
    """A patch whose faces all lie in [0, tiles]; `source` says which of the old vertices each new one is."""

    uv: np.ndarray  # [V', 2] float64 in units of tiles, >= 0
    faces: np.ndarray  # [F, 3] int64 into uv
    source: np.ndarray  # [V'] int64 into the patch's vertices
    tiles: tuple[int, int]  # across, down


@dataclass(frozen=True)
class Atlas:
    """The packed picture and each patch's geometry in it."""

    image: np.ndarray  # [H, W, 3] uint8
    patches: tuple[Unwrapped, ...]  # uv now in the picture, [0, 1], v up


def colour_patch(rgb: np.ndarray, vertices: int, faces: np.ndarray) -> Patch:
    """A patch of one plain colour. rgb [3] uint8."""
    image = np.tile(np.asarray(rgb, np.uint8), (COLOUR_CELL, COLOUR_CELL, 1))
    return Patch(image, np.full((vertices, 2), 0.5), faces)


def unwrap(patch: Patch) -> Unwrapped:
    """Move every face by whole tiles to begin in the first; vertices shared across tiles are split."""
    uv = np.nan_to_num(patch.uv, nan=0.5, posinf=0.5, neginf=0.5)
    corners = uv[patch.faces]  # [F, 3, 2]
    shift = np.floor(corners.min(axis=1) + UV_SLACK)  # [F, 2]
    keys = np.concatenate([patch.faces.reshape(-1, 1), np.repeat(shift, 3, axis=0)], axis=1)  # [3F, 3]
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    source = unique[:, 0].astype(np.int64)
    moved = np.maximum(uv[source] - unique[:, 1:], 0.0)
    across, down = np.maximum(np.ceil(moved.max(axis=0, initial=0.0) - UV_SLACK), 1).astype(int)
    return Unwrapped(moved, inverse.reshape(-1, 3), source, (int(across), int(down)))


def _cell(image: np.ndarray, tiles: tuple[int, int], shrink: int) -> np.ndarray:
    """The texture repeated `tiles` times, no larger than a cell may be, with its border repeated as padding."""
    limit = max(MAX_CELL // shrink, COLOUR_CELL)
    scale = min(1.0, limit / (image.shape[1] * tiles[0]), limit / (image.shape[0] * tiles[1]))
    size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    tile = image if scale == 1.0 else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    return np.pad(np.tile(tile, (tiles[1], tiles[0], 1)), ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="edge")


def _shelves(sizes: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Place boxes (width, height) on shelves, tallest first: each one's corner, and the whole's (width, height)."""
    area = sum(w * h for w, h in sizes)
    wide = min(max(int(np.ceil(np.sqrt(area) * 1.1)), max(w for w, _ in sizes)), MAX_ATLAS)
    corners: list[tuple[int, int]] = [(0, 0)] * len(sizes)
    x = y = shelf = 0
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i][1], -sizes[i][0])):
        if x + sizes[i][0] > wide:
            x, y, shelf = 0, y + shelf, 0
        corners[i] = (x, y)
        x += sizes[i][0]
        shelf = max(shelf, sizes[i][1])
    return corners, (wide, y + shelf)


def pack(patches: list[Patch]) -> Atlas:
    """Put every patch's texture into one picture of at most MAX_ATLAS pixels per side; equal ones are not shared."""
    moved = [unwrap(p) for p in patches]
    images = []
    for i, patch in enumerate(patches):
        if max(moved[i].tiles) > MAX_TILES:
            flat = colour_patch(patch.image.reshape(-1, 3).mean(axis=0), len(patch.uv), patch.faces)
            images.append(flat.image)
            moved[i] = unwrap(flat)
        else:
            images.append(patch.image)
    shrink = 1
    while True:
        cells = [_cell(image, u.tiles, shrink) for image, u in zip(images, moved, strict=True)]
        corners, (wide, high) = _shelves([(c.shape[1], c.shape[0]) for c in cells])
        if high <= MAX_ATLAS or shrink >= MAX_CELL:
            break
        shrink *= 2
    picture = np.zeros((high, wide, 3), np.uint8)
    placed = []
    for cell, (x, y), u in zip(cells, corners, moved, strict=True):
        picture[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
        inner = np.array([cell.shape[1], cell.shape[0]]) - 2 * PADDING
        pixel = u.uv / u.tiles * inner + PADDING  # from the cell's left and *bottom*
        bottom = high - (y + cell.shape[0])
        uv = (pixel + np.array([x, bottom])) / np.array([wide, high])
        placed.append(Unwrapped(uv, u.faces, u.source, u.tiles))
    return Atlas(picture, tuple(placed))
