"""Groups meshes that cannot be told apart by shape: surfaces that agree within a few millimetres after the best motion.

Two cans that differ only in print share a class. Beside mesh accuracy it says how much of an error is the print's.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations, product

import numpy as np
from scipy.spatial import cKDTree

TOLERANCE = 0.003  # metres: the agreement asked for
POLISH_STEPS = 12
QUERIES = 500


def shape_classes(surfaces: Mapping[str, np.ndarray], tolerance: float = TOLERANCE) -> dict[str, int]:
    """Mesh id -> class number, classes numbered in the order of the mapping.

    `surfaces`: evenly sampled surface points [N, 3] of each mesh in metres, any origin; some thousands are enough. A
    mesh joins the first class whose first member it agrees with: the root mean square distance of the surfaces stays
    under `tolerance` metres. Scale is not adapted. Raises ValueError for bad points.
    """
    for mesh_id, points in surfaces.items():
        if points.ndim != 2 or points.shape[1] != 3 or len(points) < 100 or not np.isfinite(points).all():
            raise ValueError(f"surfaces[{mesh_id!r}]: expected at least 100 finite points [N, 3], got {points.shape}")
    founders: list[str] = []
    classes: dict[str, int] = {}
    for mesh_id, points in surfaces.items():
        same = (i for i, founder in enumerate(founders) if surfaces_agree(surfaces[founder], points, tolerance))
        number = next(same, len(founders))
        if number == len(founders):
            founders.append(mesh_id)
        classes[mesh_id] = number
    return classes


def surfaces_agree(a: np.ndarray, b: np.ndarray, tolerance: float = TOLERANCE) -> bool:
    """Whether the surfaces sampled by a [N, 3] and b [M, 3] (metres) agree within `tolerance` after the best motion."""
    if np.abs(_spread(a) - _spread(b)).max() > tolerance:  # cheap, and the same in any axes
        return False
    return surface_distance(a, b, tolerance) < tolerance


def surface_distance(a: np.ndarray, b: np.ndarray, enough: float = 0.0) -> float:
    """Root mean square distance in metres between two sampled surfaces after the best motion, both ways.

    Neither scales nor mirrors; what sampling alone explains is taken off. Starts from the 24 rotations of the box and
    polishes the most promising by ICP; stops early below `enough`.
    """
    a, b = a - (a.max(0) + a.min(0)) / 2, b - (b.max(0) + b.min(0)) / 2
    tree_a, tree_b = cKDTree(a), cKDTree(b)
    few_a, few_b = a[:: max(1, len(a) // QUERIES)], b[:: max(1, len(b) // QUERIES)]
    floor = (_sampling(tree_a, few_a) + _sampling(tree_b, few_b)) / 2

    def distance(R: np.ndarray, t: np.ndarray) -> float:
        there = np.mean(tree_a.query(few_b @ R.T + t)[0] ** 2)
        back = np.mean(tree_b.query((few_a - t) @ R)[0] ** 2)
        # Samples lie beside each other, the gap across: the two add up in squares.
        return float(np.sqrt(max(0.0, (there + back) / 2 - floor)))

    starts = sorted(box_rotations(), key=lambda R: distance(R, np.zeros(3)))
    best = np.inf
    for R in starts[:6]:
        best = min(best, distance(*_polish(tree_a, a, few_b, R)))
        if best < enough:
            break
    return best


def box_rotations() -> list[np.ndarray]:
    """The 24 rotations [3, 3] that map the coordinate axes onto each other."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            R = np.zeros((3, 3))
            R[range(3), order] = signs
            if np.linalg.det(R) > 0:
                found.append(R)
    return found


def _spread(points: np.ndarray) -> np.ndarray:
    """[3]: standard deviations along the principal axes."""
    return np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))


def _sampling(tree: cKDTree, points: np.ndarray) -> float:
    """Mean square of the distance to the nearest other sample of the same surface."""
    return float(np.mean(tree.query(points, k=2)[0][:, 1] ** 2))


def _polish(tree: cKDTree, target: np.ndarray, points: np.ndarray, R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICP: rotation and translation that bring `points` onto the tree's surface, starting from R."""
    t = np.zeros(3)
    for _ in range(POLISH_STEPS):
        nearest = target[tree.query(points @ R.T + t)[1]]
        middle_from, middle_to = points.mean(0), nearest.mean(0)
        U, _, Vt = np.linalg.svd((points - middle_from).T @ (nearest - middle_to))
        mirror = np.diag([1.0, 1.0, np.sign(np.linalg.det(Vt.T @ U.T))])
        R = Vt.T @ mirror @ U.T
        t = middle_to - R @ middle_from
    return R, t
