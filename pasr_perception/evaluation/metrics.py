"""Pose and retrieval metrics, one flat function each, as the BOP challenge defines them (Hodan et al. 2020, 2024).

Radians, metres, pixels. Poses are `T_cam_obj` [4, 4]; points [N, 3] and symmetries are in the object frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from pasr_perception.geometry.symmetry import (
    NO_SYMMETRY,
    Symmetry,
    closest_symmetric_rotation_error,
    closest_symmetry,
    equivalent_poses,
)


@dataclass(frozen=True)
class Surface:
    """A sampled mesh surface, prepared for nearest-neighbour metrics. Object frame, metres."""

    points: np.ndarray  # [Q, 3] that are measured
    tree: cKDTree  # all samples
    center: np.ndarray  # [3] middle of the bounding box
    diameter: float  # the bounding box's diagonal, as everywhere in this project

    @classmethod
    def of(cls, points: np.ndarray, measured: int = 1024) -> Surface:
        """Prepare samples [N, 3]; about `measured` of them, evenly chosen, are measured against all.

        Raises ValueError for no points or points that are not finite.
        """
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
            raise ValueError(f"points: expected finite points [N, 3] with N > 0, got shape {points.shape}")
        low, high = points.min(0), points.max(0)
        chosen = points[:: max(1, len(points) // measured)]
        return cls(chosen, cKDTree(points), (low + high) / 2, float(np.linalg.norm(high - low)))


@dataclass(frozen=True)
class Summary:
    """What a list of errors comes to; None where there was nothing to measure."""

    median: float | None
    p90: float | None
    count: int


def rotation_error(R_estimated: np.ndarray, R_true: np.ndarray, symmetry: Symmetry = NO_SYMMETRY) -> float:
    """Geodesic angle in radians between two rotations [3, 3], the least over the object's symmetries."""
    return closest_symmetric_rotation_error(R_true, R_estimated, symmetry)


def translation_error(T_estimated: np.ndarray, T_true: np.ndarray, anchor: np.ndarray | None = None) -> float:
    """Distance in metres between the two places of `anchor` [3] (default: the mesh file's origin).

    The middle of the object is the fairer anchor: a mesh file's origin may lie anywhere, and would mix the rotation in.
    """
    point = np.zeros(3) if anchor is None else np.asarray(anchor)
    return float(np.linalg.norm(_move(T_estimated, point[None]) - _move(T_true, point[None])))


def add(T_estimated: np.ndarray, T_true: np.ndarray, points: np.ndarray) -> float:
    """ADD: mean distance in metres between corresponding points (Hinterstoisser et al. 2012)."""
    return float(np.linalg.norm(_move(T_estimated, points) - _move(T_true, points), axis=1).mean())


def add_s(T_estimated: np.ndarray, T_true: np.ndarray, surface: Surface) -> float:
    """ADD-S: mean distance in metres from each true point to the nearest estimated one; blind to symmetries."""
    # Both are looked at in the estimated object's frame, where one tree serves every pose.
    return float(surface.tree.query(_move(np.linalg.solve(T_estimated, T_true), surface.points))[0].mean())


def add_s_rotation_only(R_estimated: np.ndarray, R_true: np.ndarray, surface: Surface) -> float:
    """ADD-S of the rotation alone as a share of the diameter: both poses turn about the middle of the bounding box."""
    turned = (surface.points - surface.center) @ (R_estimated.T @ R_true).T + surface.center
    return float(surface.tree.query(turned)[0].mean()) / surface.diameter


def mssd(T_estimated: np.ndarray, T_true: np.ndarray, points: np.ndarray, symmetry: Symmetry = NO_SYMMETRY) -> float:
    """MSSD: largest distance in metres between corresponding points, the least over the object's symmetries."""
    return mssd_of_poses(T_estimated, _true_poses(T_true, T_estimated, symmetry), points)


def mssd_of_poses(T_estimated: np.ndarray, true_poses: np.ndarray, points: np.ndarray) -> float:
    """MSSD where the equivalent true poses [S, 4, 4] are given, as BOP lists them."""
    estimated = _move(T_estimated, points)
    return min(float(np.linalg.norm(estimated - _move(T, points), axis=1).max()) for T in true_poses)


def mspd(
    T_estimated: np.ndarray, T_true: np.ndarray, points: np.ndarray, K: np.ndarray, symmetry: Symmetry = NO_SYMMETRY
) -> float:
    """MSPD: largest distance in pixels between projected points, the least over the object's symmetries; K is [3, 3].

    Infinite where a point of either pose lies at or behind the camera.
    """
    return mspd_of_poses(T_estimated, _true_poses(T_true, T_estimated, symmetry), points, K)


def mspd_of_poses(T_estimated: np.ndarray, true_poses: np.ndarray, points: np.ndarray, K: np.ndarray) -> float:
    """MSPD where the equivalent true poses [S, 4, 4] are given, as BOP lists them; infinite behind the camera."""
    estimated = _pixels(_move(T_estimated, points), K)
    distances = [np.linalg.norm(estimated - _pixels(_move(T, points), K), axis=1).max() for T in true_poses]
    finite = [float(d) for d in distances if np.isfinite(d)]
    return min(finite, default=float("inf"))


def topk_accuracy(ranked: Sequence[Sequence[str]], truth: Sequence[str], k: int) -> float | None:
    """Share of items whose true label is among the first k of its ranked list; None for no items.

    Raises ValueError when the two lists differ in length or k < 1.
    """
    if len(ranked) != len(truth):
        raise ValueError(f"ranked, truth: expected equal lengths, got {len(ranked)} and {len(truth)}")
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    if not truth:
        return None
    return sum(label in list(labels)[:k] for labels, label in zip(ranked, truth, strict=True)) / len(truth)


def share_below(values: Sequence[float], limit: float) -> float | None:
    """Share of the values under `limit`; None for no values."""
    return float(np.mean(np.asarray(values) < limit)) if len(values) else None


def accuracy_within(errors: Sequence[float | None], limit: float) -> float | None:
    """Share of all errors under `limit`, None among them being a failure (PASR's Acc); None for no errors at all."""
    if not len(errors):
        return None
    return sum(e is not None and e < limit for e in errors) / len(errors)


def median_with_failures(errors: Sequence[float | None], worst: float) -> float | None:
    """Median of all errors, None among them counting as `worst`; None for no errors at all."""
    return float(np.median([worst if e is None else e for e in errors])) if len(errors) else None


def percentile_summary(values: Sequence[float]) -> Summary:
    """Median and 90th percentile (linear interpolation)."""
    if not len(values):
        return Summary(None, None, 0)
    median, p90 = np.percentile(values, [50, 90])
    return Summary(float(median), float(p90), len(values))


def _move(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ T[:3, :3].T + T[:3, 3]


def _pixels(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    z = points[:, 2:]
    uv = points @ K.T
    return np.where(z > 1e-6, uv[:, :2] / np.where(z > 1e-6, z, 1.0), np.inf)


def _true_poses(T_true: np.ndarray, T_estimated: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """All poses equivalent to the truth and, for a continuous axis, also the exact turn nearest to the estimate."""
    poses = equivalent_poses(T_true, symmetry)
    if not symmetry.continuous_axes:
        return poses
    nearest = closest_symmetry(T_true[:3, :3], T_estimated[:3, :3], symmetry)[1]
    center = np.asarray(symmetry.center)
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = nearest, center - nearest @ center
    return np.concatenate([poses, (T_true @ turn)[None]])
