"""How near a retrieved shape comes to the true one, as LFD reports it: modified Hausdorff distance and 3D IoU at 128^3.

Both shapes are looked at in their normalised frames (`library/sample.py`), so size does not count.
"""

from __future__ import annotations

import numpy as np
import trimesh
from scipy import ndimage
from scipy.spatial import cKDTree

RESOLUTION = 128
SAMPLES_PER_VOXEL_FACE = 12  # of surface, so that hardly a voxel of it is missed
MOST_SAMPLES = 2_000_000


def modified_hausdorff(a: np.ndarray, b: np.ndarray) -> float:
    """The larger of the two mean distances from points [N, 3] of one surface to the nearest [M, 3] of the other.

    Dubuisson and Jain 1994. Raises ValueError for a set without points.
    """
    if not len(a) or not len(b):
        raise ValueError(f"points: expected some of both surfaces, got {len(a)} and {len(b)}")
    return max(float(cKDTree(b).query(a)[0].mean()), float(cKDTree(a).query(b)[0].mean()))


def solid_voxels(mesh: trimesh.Trimesh, seed: int = 0, resolution: int = RESOLUTION) -> np.ndarray:
    """Voxels [R, R, R] bool of a normalised mesh and all that it encloses, over the cube from -1 to 1.

    CAD surfaces have gaps and faces inside; what no path from the cube's border reaches counts as enclosed.
    """
    pitch = 2 / resolution
    count = int(min(SAMPLES_PER_VOXEL_FACE * mesh.area / pitch**2 + 1000, MOST_SAMPLES))
    points = np.asarray(trimesh.sample.sample_surface(mesh, count, seed=seed)[0])
    index = np.clip(np.floor((points + 1) / pitch).astype(int), 0, resolution - 1)
    surface = np.zeros((resolution,) * 3, bool)
    surface[tuple(index.T)] = True
    return ndimage.binary_fill_holes(surface)


def voxel_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean grids of one shape; 0 where both are empty."""
    if a.shape != b.shape:
        raise ValueError(f"voxels: expected grids of one shape, got {a.shape} and {b.shape}")
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else 0.0
