"""Whether an object moves, by its boxes alone: the rays through them either meet in one point or they do not.

A pose that is wrong seems to move whenever the camera does, in depth most of all. Boxes know nothing of poses: if one fixed point
explains the directions in which an object was detected, from all the places that the camera was at, then it stands still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pasr_perception.crop import clipped_edges
from pasr_perception.geometry.camera import rays, undistort_points
from pasr_perception.types import Frame

SPREAD = 0.1  # standard deviation of a box's middle, of its longer side; loose and partly hidden boxes reach twice that
WINDOW_S, FEWEST, MOST = 3.0, 5, 15  # seconds and sightings that are looked at
WORST = 16.0  # of a squared residual: one box of something else decides nothing
ROUNDS = 5  # of weighted least squares
LIMIT = 4.0  # mean squared residual, over its expectation, from which nothing fixed explains the rays


@dataclass(frozen=True)
class Sighting:
    """One detection, in the frame that stands still."""

    stamp_ns: int
    origin: np.ndarray  # [3] of the camera
    ray: np.ndarray  # [3] unit, through the box's middle
    spread: float  # radians, its standard deviation


def sighting(box: np.ndarray, frame: Frame, T_ref_cam: np.ndarray) -> Sighting | None:
    """A detected box [4] as a ray; None where the image's border cuts it, so that its middle says little."""
    if clipped_edges(box, frame.camera).any():
        return None
    middle, size = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
    ray = rays(undistort_points(middle[None], frame.camera), frame.camera.K)[0]
    ray = T_ref_cam[:3, :3] @ (ray / np.linalg.norm(ray))
    return Sighting(frame.stamp_ns, T_ref_cam[:3, 3].copy(), ray, SPREAD * size / float(frame.camera.K[0, 0]))


def latest(sightings: Sequence[Sighting]) -> tuple[Sighting, ...]:
    """Those that are young enough to say what goes on now."""
    kept = sightings[-MOST:]
    return tuple(s for s in kept if (kept[-1].stamp_ns - s.stamp_ns) * 1e-9 <= WINDOW_S)


def moves(sightings: Sequence[Sighting], near: np.ndarray) -> bool:
    """Whether no fixed point explains the sightings; `near` [3] is about where the object is."""
    if len(sightings) < FEWEST:
        return False
    origin, ray = np.stack([s.origin for s in sightings]), np.stack([s.ray for s in sightings])
    spread = np.array([s.spread for s in sightings])
    point, trust = near, np.ones(len(ray))
    for _ in range(ROUNDS):
        distance = np.maximum(np.linalg.norm(point - origin, axis=1), 1e-6)
        across = (np.eye(3) - ray[:, :, None] * ray[:, None]) / (distance * spread)[:, None, None]  # [n, 3, 3]
        # rays that are nearly parallel leave the depth open: it stays about where it was
        rows = trust[:, None, None] * across
        A = np.concatenate([rows.reshape(-1, 3), np.eye(3) / distance.mean()])
        b = np.concatenate([(rows @ origin[..., None]).reshape(-1), near / distance.mean()])
        point = np.linalg.lstsq(A, b, rcond=None)[0]
        squared = np.minimum(((across @ (point - origin)[..., None]) ** 2).sum((1, 2)), 1e12)
        trust = np.sqrt(WORST / np.maximum(squared, WORST))
    return bool(np.minimum(squared, WORST).sum() / (2 * len(sightings) - 3) > LIMIT)
