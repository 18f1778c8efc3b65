"""Overlap of boxes, and boxes around points."""

from __future__ import annotations

import numpy as np

from pasr_perception.geometry.boxes import expected_box, iou
from pasr_perception.geometry.se3 import make_T
from pasr_perception.types import Camera

CAMERA = Camera(320, 240, np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]))


def test_overlap():
    a = np.array([[0.0, 0, 2, 2], [0, 0, 1, 1]])
    np.testing.assert_allclose(iou(a, np.array([[0.0, 0, 2, 1], [5, 5, 6, 6]])), [[0.5, 0], [0.5, 0]])


def test_the_expected_box_is_around_the_projected_points_and_none_behind_the_camera():
    points = np.array([[-0.1, -0.1, 0.0], [0.1, 0.1, 0.0]])
    ahead = make_T(np.eye(3), np.array([0, 0, 1.0]))
    np.testing.assert_allclose(expected_box(points, ahead, CAMERA), [130, 90, 190, 150])
    assert expected_box(points, make_T(np.eye(3), np.array([0, 0, -1.0])), CAMERA) is None
