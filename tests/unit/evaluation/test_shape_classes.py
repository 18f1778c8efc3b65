"""Shape classes of simple bodies in metres."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from pasr_perception.evaluation.shape_classes import box_rotations, shape_classes, surface_distance


def box(extents: tuple[float, float, float], seed: int = 0) -> np.ndarray:
    return np.asarray(trimesh.sample.sample_surface(trimesh.creation.box(extents), 3000, seed=seed)[0])


def can(radius: float, height: float, seed: int = 0) -> np.ndarray:
    mesh = trimesh.creation.cylinder(radius=radius, height=height)
    return np.asarray(trimesh.sample.sample_surface(mesh, 3000, seed=seed)[0])


def test_the_same_box_lying_and_shifted_joins_and_a_larger_one_does_not() -> None:
    surfaces = {
        "upright": box((0.04, 0.06, 0.15)),
        "lying": box((0.15, 0.04, 0.06), seed=1) + np.array([0.3, 0, 0]),
        "two millimetres more": box((0.04, 0.06, 0.152), seed=2),
        "two centimetres more": box((0.04, 0.06, 0.17), seed=3),
    }
    assert list(shape_classes(surfaces).values()) == [0, 0, 0, 1]


def test_can_and_box_of_one_size_differ() -> None:
    surfaces = {"can": can(0.033, 0.1), "box": box((0.066, 0.066, 0.1)), "other can": can(0.033, 0.1, seed=4)}
    assert shape_classes(surfaces) == {"can": 0, "box": 1, "other can": 0}


def test_distance_of_the_same_surface_is_the_offset_that_no_motion_removes() -> None:
    turned = box((0.1, 0.2, 0.3), seed=5) @ Rotation.from_euler("xyz", [94, 4, 3], degrees=True).as_matrix().T
    assert surface_distance(box((0.1, 0.2, 0.3)), turned) < 0.001
    grown = surface_distance(can(0.05, 0.2), can(0.06, 0.2, seed=1))
    assert grown == pytest.approx(0.01, abs=0.002)


def test_a_mirror_image_is_another_shape() -> None:
    parts = [((3, 1, 1), (0, 0, 0)), ((1, 2, 1), (1, 1.5, 0)), ((1, 1, 2), (1, 2, 1.5))]
    mesh = trimesh.util.concatenate([trimesh.creation.box(e).apply_translation(t) for e, t in parts])
    points = np.asarray(trimesh.sample.sample_surface(mesh, 4000, seed=0)[0]) * 0.05
    assert surface_distance(points, points * np.array([-1, 1, 1])) > 0.01


def test_box_rotations_are_the_24_of_the_cube() -> None:
    rotations = np.stack(box_rotations())
    assert len(np.unique(rotations.reshape(-1, 9), axis=0)) == 24
    np.testing.assert_allclose(np.linalg.det(rotations), 1)


def test_bad_points_are_named() -> None:
    with pytest.raises(ValueError, match=r"surfaces\['lamp'\]"):
        shape_classes({"lamp": np.zeros((3, 3))})
