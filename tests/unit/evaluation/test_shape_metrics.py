from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pasr_perception.evaluation.shape_metrics import modified_hausdorff, solid_voxels, voxel_iou


def test_modified_hausdorff_is_the_larger_mean_of_nearest_distances():
    a, b = np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([[0.0, 0, 0]])
    assert modified_hausdorff(a, b) == pytest.approx(0.5)
    assert modified_hausdorff(b, a) == pytest.approx(0.5)
    assert modified_hausdorff(a, a) == 0
    with pytest.raises(ValueError, match="got 2 and 0"):
        modified_hausdorff(a, np.zeros((0, 3)))


def test_voxels_hold_the_inside_too():
    cube = trimesh.creation.box((1, 1, 1))
    voxels = solid_voxels(cube, resolution=32)
    assert voxels[16, 16, 16]
    assert voxels.sum() * (2 / 32) ** 3 == pytest.approx(1, rel=0.25)  # and half a voxel of skin around
    open_sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    assert solid_voxels(open_sheet, resolution=32).sum() < 200


def test_iou_of_halves_and_of_other_sizes():
    a, b = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    a[:2], b[1:3] = True, True
    assert voxel_iou(a, b) == pytest.approx(1 / 3)
    assert voxel_iou(a, a) == 1
    assert voxel_iou(~(a | ~a), ~(a | ~a)) == 0
    with pytest.raises(ValueError, match="one shape"):
        voxel_iou(a, np.zeros((2, 2, 2), bool))
