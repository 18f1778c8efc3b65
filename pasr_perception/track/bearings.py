"""What an object's boxes say without its pose: whether it stands still, and where its box is when they are taken together.

A pose that is wrong seems to move whenever the camera does, in depth most of all. Boxes know nothing of poses: if one fixed point
explains the directions in which an object was detected, from all the places that the camera was at, then it stands still. And then
the last seconds' boxes, each as loose as detectors are, are one box that is much less so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pasr_perception.crop import clipped_edges
from pasr_perception.geometry.camera import distort_points, project, rays, undistort_points
from pasr_perception.geometry.se3 import invert_T
from pasr_perception.types import Frame

SPREAD = 0.1  # standard deviation of a box's middle, of its longer side; loose and partly hidden boxes reach twice that
WINDOW_S, FEWEST, MOST = 3.0, 5, 15  # seconds and sightings that are looked at
WORST = 16.0  # of a squared residual: one box of something else decides nothing
ROUNDS = 6  # of Gauss-Newton
DEPTH_OPEN = 0.5  # how far off, in distances, the object may be from where it is held to be
LIMIT = 4.0  # mean squared residual, over its expectation, from which nothing fixed explains the rays


@dataclass(frozen=True)
class Sighting:
    """One detection, in the frame that stands still."""

    stamp_ns: int
    origin: np.ndarray  # [3] of the camera
    ray: np.ndarray  # [3] unit, through the box's middle
    spread: float  # radians, its standard deviation
    size: np.ndarray  # [2] of the box over the focal lengths


def sighting(box: np.ndarray, frame: Frame, T_ref_cam: np.ndarray) -> Sighting | None:
    """A detected box [4] as a ray; None where the image's border cuts it, so that its middle says little."""
    if clipped_edges(box, frame.camera).any():
        return None
    middle = (box[:2] + box[2:]) / 2
    ray = rays(undistort_points(middle[None], frame.camera), frame.camera.K)[0]
    ray = T_ref_cam[:3, :3] @ (ray / np.linalg.norm(ray))
    size = (box[2:] - box[:2]) / np.diag(frame.camera.K)[:2]
    return Sighting(frame.stamp_ns, T_ref_cam[:3, 3].copy(), ray, SPREAD * float(size.max()), size)


def latest(sightings: Sequence[Sighting]) -> tuple[Sighting, ...]:
    """Those that are young enough to say what goes on now."""
    kept = sightings[-MOST:]
    return tuple(s for s in kept if (kept[-1].stamp_ns - s.stamp_ns) * 1e-9 <= WINDOW_S)


def moves(sightings: Sequence[Sighting], near: np.ndarray) -> bool:
    """Whether no fixed point explains the sightings; `near` [3] is about where the object is."""
    if len(sightings) < FEWEST:
        return False
    return meeting_point(sightings, near)[1] > LIMIT


def steadied(
    box: np.ndarray, sightings: Sequence[Sighting], near: np.ndarray, frame: Frame, T_ref_cam: np.ndarray
) -> np.ndarray:
    """The box [4] of an object at rest by all its sightings, this frame's `box` among them; that one where they say nothing."""
    if len(sightings) < FEWEST or clipped_edges(box, frame.camera).any():
        return box
    point, misfit = meeting_point(sightings, near)
    T_cam_ref = invert_T(T_ref_cam)
    seen = T_cam_ref[:3, :3] @ point + T_cam_ref[:3, 3]
    if misfit > LIMIT or seen[2] <= 0:
        return box
    distance = np.array([np.linalg.norm(point - s.origin) for s in sightings])
    size = np.median([s.size * d for s, d in zip(sightings, distance, strict=True)], axis=0) / np.linalg.norm(seen)
    half = size * np.diag(frame.camera.K)[:2] / 2
    middle = distort_points(project(seen[None], frame.camera.K), frame.camera)[0]
    steady: np.ndarray = np.concatenate([middle - half, middle + half])
    return steady if np.isfinite(steady).all() else box


def meeting_point(sightings: Sequence[Sighting], near: np.ndarray) -> tuple[np.ndarray, float]:
    """The point [3] that the rays pass nearest to, and the mean square of by how many deviations they miss it."""
    origin, ray = np.stack([s.origin for s in sightings]), np.stack([s.ray for s in sightings])
    spread = np.array([s.spread for s in sightings])
    point, trust = np.asarray(near, dtype=np.float64), np.ones(len(ray))
    across = (np.eye(3) - ray[:, :, None] * ray[:, None]) / spread[:, None, None]  # [n, 3, 3]
    for _ in range(ROUNDS):
        away = point - origin
        distance = np.maximum(np.linalg.norm(away, axis=1), 1e-6)
        seen = away / distance[:, None]
        off = (across @ seen[..., None])[..., 0]  # [n, 3] deviations
        squared = (off**2).sum(1)
        trust = np.sqrt(WORST / np.maximum(squared, WORST))[:, None]
        rate = across @ (np.eye(3) - seen[:, :, None] * seen[:, None]) / distance[:, None, None]
        # rays that are nearly parallel leave the depth open: it stays about where it was
        hold = 1 / (DEPTH_OPEN * distance.mean())
        A = np.concatenate([(trust[..., None] * rate).reshape(-1, 3), hold * np.eye(3)])
        b = np.concatenate([(trust * off).reshape(-1), hold * (point - near)])
        point = point - np.linalg.lstsq(A, b, rcond=None)[0]
    return point, float(np.minimum(squared, WORST).sum() / (2 * len(sightings) - 3))
