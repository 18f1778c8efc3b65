"""The surroundings of a simulated scene: a box-shaped room with procedural floor and walls.

Textures repeat without seams and are kept from aliasing by mipmaps."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

TEXELS = 512
FLOORS = ("planks", "tiles", "carpet", "concrete", "marble")
SMALLEST_LEVEL = 8  # texels


def _cloud(rng: np.random.Generator, slope: float, stretch: float = 1.0) -> np.ndarray:
    """Seamless random field [T, T], mean 0, deviation 1; steeper `slope` = smoother, `stretch` < 1 = streaks."""
    fy, fx = np.meshgrid(np.fft.fftfreq(TEXELS), np.fft.fftfreq(TEXELS), indexing="ij")
    frequency = np.hypot(fy, fx * stretch)
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.standard_normal((TEXELS, TEXELS))) / frequency**slope
    spectrum[0, 0] = 0
    field = np.fft.ifft2(spectrum).real
    return field / field.std()


def _joints(count_x: int, count_y: int, shift_rows: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles in rows: a random value per rectangle [T, T], and a mask [T, T] that is 1 in the joints between."""
    y, x = np.mgrid[0:TEXELS, 0:TEXELS] / TEXELS
    row = np.floor(y * count_y).astype(int)
    along = x * count_x + (rng.uniform(0, 1, count_y)[row] if shift_rows else 0)
    column = np.floor(along).astype(int) % count_x
    value = rng.standard_normal((count_y, count_x))[row, column]
    across = np.minimum(along % 1, 1 - along % 1) / count_x
    down = np.minimum(y * count_y % 1, 1 - y * count_y % 1) / count_y
    return value, (np.minimum(across, down) < 0.004).astype(float)


def floor_texture(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Seamless albedo [T, T, 3] float32 in 0..1 (display values) of one of FLOORS."""
    hue = rng.uniform(0, 180)
    colour = cv2.cvtColor(np.array([[[hue, rng.uniform(5, 75), rng.uniform(70, 220)]]], np.uint8), cv2.COLOR_HSV2RGB)
    base = colour[0, 0] / 255.0
    if kind == "planks":
        base = np.array([0.62, 0.45, 0.30]) * rng.uniform(0.6, 1.3)
        value, joint = _joints(2, 8, True, rng)
        pattern = 0.10 * value + 0.10 * _cloud(rng, 0.9, stretch=0.08) - 0.5 * joint
    elif kind == "tiles":
        value, joint = _joints(4, 4, False, rng)
        pattern = 0.05 * value + 0.05 * _cloud(rng, 1.1) + rng.choice([-0.4, 0.3]) * joint
    elif kind == "carpet":
        pattern = 0.14 * _cloud(rng, 0.2) + 0.05 * _cloud(rng, 0.9)
    elif kind == "concrete":
        base = base.mean() * np.ones(3) * 0.8 + 0.2 * base
        pattern = 0.06 * _cloud(rng, 1.1) + 0.05 * _cloud(rng, 0.4)
    elif kind == "marble":
        pattern = 0.05 * _cloud(rng, 1.5) - 0.35 * np.exp(-np.abs(_cloud(rng, 1.7)) * 14)
    else:
        raise ValueError(f"floor kind: expected one of {', '.join(FLOORS)}, got {kind!r}")
    tint = 0.012 * np.stack([_cloud(rng, 1.6) for _ in range(3)], -1)
    return np.clip(base * (1 + pattern[..., None] + tint), 0.02, 0.98).astype(np.float32)


class TiledTexture:
    """A seamless texture of a given size in metres, sampled at the resolution the viewer can see."""

    def __init__(self, texels: np.ndarray, size: float) -> None:
        self._size = size
        self._levels: list[np.ndarray] = [texels**2.2]  # light adds up linearly
        while len(self._levels[-1]) > SMALLEST_LEVEL:
            half = len(self._levels[-1]) // 2
            self._levels.append(cv2.resize(self._levels[-1], (half, half), interpolation=cv2.INTER_AREA))

    def sample(self, at: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Linear albedo [N, 3] at points [N, 2] in metres, each seen over a patch of `footprint` [N] metres."""
        finest = self._size / len(self._levels[0])
        wanted = np.log2(np.maximum(footprint / finest, 1.0))
        level = np.minimum(np.round(wanted), len(self._levels) - 1).astype(int)
        colour = np.empty((len(at), 3), np.float32)
        for index in np.unique(level):
            chosen = level == index
            colour[chosen] = _bilinear_wrapped(self._levels[index], at[chosen] / self._size)
        return colour


def _bilinear_wrapped(texels: np.ndarray, at: np.ndarray) -> np.ndarray:
    count = len(texels)
    position = at * count - 0.5
    low = np.floor(position).astype(np.int64)
    share = (position - low).astype(np.float32)
    (x0, y0), (x1, y1) = (low % count).T, ((low + 1) % count).T
    sx, sy = share[:, :1], share[:, 1:]
    top = texels[y0, x0] * (1 - sx) + texels[y0, x1] * sx
    return top * (1 - sy) + (texels[y1, x0] * (1 - sx) + texels[y1, x1] * sx) * sy


@dataclass(frozen=True)
class RoomHits:
    """Where rays from inside meet the room's faces."""

    distance: np.ndarray  # [N] in lengths of the direction vector
    point: np.ndarray  # [N, 3]
    normal: np.ndarray  # [N, 3], inwards
    is_floor: np.ndarray  # [N] bool


class Room:
    """The axis-aligned box from `low` [3] to `high` [3]; its floor is the face of least z."""

    def __init__(self, low: np.ndarray, high: np.ndarray, tile: float, rng: np.random.Generator) -> None:
        self._low, self._high = low, high
        self._floor = TiledTexture(floor_texture(str(rng.choice(FLOORS)), rng), tile)
        self._wall = TiledTexture(floor_texture("concrete", rng) ** 0.6, tile * 2)

    def cast(self, origin: np.ndarray, directions: np.ndarray) -> RoomHits:
        """The faces that rays from `origin` [3] (inside) along `directions` [N, 3] leave through."""
        safe = np.where(np.abs(directions) < 1e-12, 1e-12, directions)
        exits = (np.where(safe > 0, self._high, self._low) - origin) / safe
        axis = exits.argmin(1)
        distance = exits[np.arange(len(exits)), axis]
        normal = np.zeros_like(directions)
        normal[np.arange(len(axis)), axis] = -np.sign(safe[np.arange(len(axis)), axis])
        return RoomHits(distance, origin + directions * distance[:, None], normal, normal[:, 2] > 0.5)

    def albedo(self, hits: RoomHits, pixel_angle: float, directions: np.ndarray) -> np.ndarray:
        """Linear colours [N, 3] of the hits, seen by pixels that are `pixel_angle` radians wide."""
        lengths = np.linalg.norm(directions, axis=1)
        slope = np.abs(np.einsum("nd,nd->n", hits.normal, directions)) / lengths
        footprint = hits.distance * lengths * pixel_angle / np.sqrt(np.maximum(slope, 0.05))
        colour = np.empty((len(directions), 3), np.float32)
        floor = hits.is_floor
        colour[floor] = self._floor.sample(hits.point[floor, :2], footprint[floor])
        wall = ~floor
        across = np.where(np.abs(hits.normal[wall, :1]) > 0.5, hits.point[wall, 1:2], hits.point[wall, 0:1])
        colour[wall] = self._wall.sample(np.hstack([across, hits.point[wall, 2:]]), footprint[wall])
        return colour
