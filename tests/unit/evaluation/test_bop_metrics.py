"""BOP's errors on images and lists whose answers can be computed in the head."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pasr_perception.evaluation import bop_metrics as bop
from pasr_perception.evaluation import metrics
from pasr_perception.geometry.se3 import make_T
from pasr_perception.render.mesh import Raycaster, camera_rays
from pasr_perception.types import Camera

TAUS = np.array([0.1, 0.5])


def plate(columns: slice, distance: float) -> np.ndarray:
    image = np.zeros((4, 10))
    image[:, columns] = distance
    return image


def test_vsd_counts_what_only_one_of_both_shows_and_what_is_too_far_apart():
    nothing = np.zeros((4, 10))
    true, beside = plate(slice(0, 6), 1.0), plate(slice(2, 8), 1.0)
    np.testing.assert_allclose(bop.vsd(true, true, nothing, 0.2), 0)
    np.testing.assert_allclose(bop.vsd(beside, true, nothing, 0.2, TAUS), [0.5, 0.5])  # 4 of 8 columns are shared
    # 0.05 m is a quarter of the diameter
    np.testing.assert_allclose(bop.vsd(plate(slice(0, 6), 1.05), true, nothing, 0.2, TAUS), [1, 0])
    np.testing.assert_allclose(bop.vsd(nothing, nothing, nothing, 0.2, TAUS), [1, 1])


def test_vsd_looks_at_what_the_sensor_could_see_only():
    true, estimated = plate(slice(0, 6), 1.0), plate(slice(0, 8), 1.0)
    wall = plate(slice(6, 10), 0.5)  # hides what is wrong
    np.testing.assert_allclose(bop.vsd(estimated, true, wall, 0.2, TAUS), 0)
    behind = plate(slice(0, 10), 1.0 - bop.DELTA + 1e-6)
    assert bop.visible_mask(behind, true).sum() == 24
    assert bop.visible_mask(behind - 0.01, true).sum() == 0


def test_depth_becomes_distance_from_the_camera():
    camera = Camera(21, 21, np.array([[20.0, 0, 10.5], [0, 20, 10.5], [0, 0, 1]]))
    caster = Raycaster(trimesh.creation.box((10, 10, 2)))
    depth = bop.depth_image(caster, make_T(np.eye(3), np.array([0, 0, 5.0])), camera)
    np.testing.assert_allclose(depth, 4, rtol=1e-5)  # the box's front face fills the view
    distance = bop.distance_image(depth, camera.K)
    assert distance[10, 10] == pytest.approx(4)
    assert distance[10, 20] == pytest.approx(4 * np.hypot(1, 0.5))


@pytest.mark.parametrize("t", [(0.2, -0.1, 5.0), (1.6, 0.9, 4.0), (0.0, 0.0, 0.9), (30.0, 0.0, 5.0)])
def test_depth_is_what_rays_through_all_pixels_find(t):
    camera = Camera(40, 30, np.array([[50.0, 0, 19.3], [0, 48, 15.8], [0, 0, 1]]))
    mesh = trimesh.creation.annulus(0.3, 0.8, 1.5)
    R = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])[:3, :3]
    rays = camera_rays(camera.K, camera.width, camera.height, 1)
    hits = Raycaster(mesh).cast(-R.T @ np.array(t), rays @ R)
    expected = np.zeros(len(rays))
    expected[hits.ray] = hits.distance
    depth = bop.depth_image(Raycaster(mesh), make_T(R, np.array(t)), camera)
    np.testing.assert_allclose(depth, expected.reshape(30, 40), atol=1e-4)
    np.testing.assert_allclose(
        bop.distance_image(depth, camera.K), depth * np.linalg.norm(rays, axis=1).reshape(30, 40), atol=1e-9
    )


def test_average_recall_is_the_mean_over_thresholds_and_no_estimate_is_wrong():
    assert bop.average_recall([0.0, 0.15, None, 0.9], np.array([0.1, 0.2])) == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert bop.average_recall([], bop.SHARES) is None
    assert len(bop.SHARES) == len(bop.MSPD_PIXELS) == 10
    assert bop.mssd_recall([0.26]) == pytest.approx(0.5)  # under 0.30 ... 0.50


def test_mspd_thresholds_grow_with_the_image():
    assert bop.mspd_recall([26.0], 640) == pytest.approx(0.5)
    assert bop.mspd_recall([52.0], 1280) == pytest.approx(0.5)
    assert bop.mspd_recall([26.0], 1280) == pytest.approx(0.8)


def test_vsd_recall_is_over_tolerances_and_thresholds():
    half = np.where(np.arange(10) < 5, 1.0, 0.0)  # right from the sixth tolerance on
    assert bop.vsd_recall([half]) == pytest.approx(0.5)
    assert bop.vsd_recall([half, None]) == pytest.approx(0.25)
    assert bop.vsd_recall([]) is None


def test_listed_symmetries_are_equivalent_truths():
    half_turn = np.diag([-1.0, -1, 1, 1])
    points, K = np.array([[1.0, 0, 0], [0, 0.5, 0]]), np.array([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])
    T = make_T(np.eye(3), np.array([0, 0, 2.0]))
    poses = T @ np.stack([np.eye(4), half_turn])
    assert metrics.mssd_of_poses(T @ half_turn, poses[:1], points) == pytest.approx(2)
    assert metrics.mssd_of_poses(T @ half_turn, poses, points) == pytest.approx(0)
    assert metrics.mspd_of_poses(T @ half_turn, poses[:1], points, K) == pytest.approx(100)
    assert metrics.mspd_of_poses(T @ half_turn, poses, points, K) == pytest.approx(0)
