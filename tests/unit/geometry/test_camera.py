"""Projection and lens distortion: the half-pixel convention, inverses, and what no ray reaches."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pasr_perception.geometry.camera import (
    check_camera,
    distort_points,
    has_distortion,
    project,
    ray_limit,
    rays,
    undistort_points,
)
from pasr_perception.types import Camera

K = np.array([[900.0, 0, 641.5], [0, 910.0, 355.0], [0, 0, 1]])
PINHOLE = Camera(1280, 720, K)
LENSES = {
    "barrel": [-0.28, 0.09, 0.001, -0.0007],
    "plumb_bob": [0.05, -0.11, -0.0005, 0.0004, 0.06],
    "rational": [0.42, 0.1, 0.0002, -0.0003, 0.01, 0.75, 0.2, 0.03],
}


def lens(name: str) -> Camera:
    return replace(PINHOLE, distortion=np.array(LENSES[name]))


def grid(camera: Camera) -> np.ndarray:
    u, v = np.meshgrid(np.linspace(0, camera.width, 17), np.linspace(0, camera.height, 11))
    return np.stack([u.ravel(), v.ravel()], 1)


def test_projection_by_hand():
    uv = project(np.array([[0.0, 0, 2], [1, 0, 2], [0, -1, 4]]), K)
    np.testing.assert_allclose(uv, [[641.5, 355], [641.5 + 450, 355], [641.5, 355 - 227.5]], atol=1e-12)


def test_points_behind_the_camera_have_no_pixel():
    uv = project(np.array([[0.0, 0, -1], [0.1, 0, 0], [0, 0, 1]]), K)
    assert np.isnan(uv[:2]).all()
    np.testing.assert_allclose(uv[2], K[:2, 2])


def test_rays_are_the_inverse_of_projection():
    uv = grid(PINHOLE)
    np.testing.assert_allclose(project(rays(uv, K) * 3.7, K), uv, atol=1e-9)


@pytest.mark.parametrize("name", LENSES)
def test_distortion_agrees_with_the_formula(name: str):
    camera = lens(name)
    ideal = np.array([[700.0, 300], [1100, 600], [641.5, 355]])
    k = np.zeros(8)
    k[: len(camera.distortion)] = camera.distortion
    x, y = rays(ideal, K)[:, :2].T
    r2 = x * x + y * y
    radial = (1 + k[0] * r2 + k[1] * r2**2 + k[4] * r2**3) / (1 + k[5] * r2 + k[6] * r2**2 + k[7] * r2**3)
    xd = x * radial + 2 * k[2] * x * y + k[3] * (r2 + 2 * x * x)
    yd = y * radial + k[2] * (r2 + 2 * y * y) + 2 * k[3] * x * y
    expected = np.stack([xd * K[0, 0] + K[0, 2], yd * K[1, 1] + K[1, 2]], 1)
    np.testing.assert_allclose(distort_points(ideal, camera), expected, atol=1e-9)


@pytest.mark.parametrize("name", LENSES)
def test_undistortion_undoes_distortion_over_the_whole_image(name: str):
    camera = lens(name)
    uv = grid(camera)
    np.testing.assert_allclose(distort_points(undistort_points(uv, camera), camera), uv, atol=1e-6)


def test_without_distortion_nothing_moves():
    for distortion in (np.zeros(0), np.zeros(5)):
        camera = replace(PINHOLE, distortion=distortion)
        assert not has_distortion(camera)
        np.testing.assert_array_equal(undistort_points(grid(camera), camera), grid(camera))
        np.testing.assert_array_equal(distort_points(grid(camera), camera), grid(camera))
        assert ray_limit(camera) == pytest.approx(math.tan(math.radians(80)))


def test_where_the_polynomial_turns_back_there_is_no_image():
    camera = replace(PINHOLE, distortion=np.array([-0.3, 0, 0, 0]))  # r - 0.3 r^3 turns at r = 1 / sqrt(0.9)
    turn = 1 / math.sqrt(0.9)
    assert ray_limit(camera) == pytest.approx(turn, abs=0.02)
    inside, outside = (project(np.array([[r, 0, 1.0]]), K) for r in (turn - 0.05, turn + 0.05))
    assert np.isfinite(distort_points(inside, camera)).all()
    assert np.isnan(distort_points(outside, camera)).all()
    beyond = np.array([[K[0, 2] + 900 * 0.75, K[1, 2]]])  # the image ends at a distorted radius of 2/3 * turn = 0.70
    assert np.isnan(undistort_points(beyond, camera)).all()


def test_no_points_are_no_problem():
    camera = lens("barrel")
    assert distort_points(np.zeros((0, 2)), camera).shape == (0, 2)
    assert undistort_points(np.zeros((0, 2)), camera).shape == (0, 2)


def altered(row: int, column: int, value: float) -> np.ndarray:
    changed = K.copy()
    changed[row, column] = value
    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 0}, "size"),
        ({"K": np.zeros((3, 3))}, "focal"),
        ({"K": np.eye(4)}, "shape"),
        ({"K": altered(0, 2, np.nan)}, "finite"),
        ({"K": altered(1, 1, -5)}, "focal"),
        ({"K": altered(2, 0, 1)}, "bottom row"),
        ({"K": altered(0, 1, 2)}, "skew"),
        ({"distortion": np.zeros(3)}, "distortion"),
        ({"distortion": np.array([np.inf, 0, 0, 0])}, "distortion"),
    ],
)
def test_an_unusable_camera_is_named(change: dict, words: str):
    check_camera(PINHOLE)
    with pytest.raises(ValueError, match=words):
        check_camera(replace(PINHOLE, **change))


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="points_cam: expected shape"):
        project(np.zeros((4, 2)), K)
    with pytest.raises(ValueError, match="uv: expected shape"):
        undistort_points(np.zeros(2), PINHOLE)
