"""Metrics on hand-made cases whose answers can be computed in the head."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pasr_perception.evaluation import metrics
from pasr_perception.geometry.symmetry import Symmetry

HALF_TURN = Symmetry.from_dict({"folds": [{"axis": [0, 0, 1], "n": 2}]})
CONTINUOUS = Symmetry.from_dict({"continuous_axes": [[0, 0, 1]]})
PAIR = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])  # looks the same after half a turn about z
SURFACE = metrics.Surface.of(PAIR)


def pose(t: tuple[float, float, float] = (0, 0, 0), z_degrees: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("z", z_degrees, degrees=True).as_matrix()
    T[:3, 3] = t
    return T


def test_rotation_error_in_radians_with_and_without_symmetry() -> None:
    a, b = pose()[:3, :3], pose(z_degrees=170)[:3, :3]
    assert metrics.rotation_error(a, b) == pytest.approx(np.radians(170))
    assert metrics.rotation_error(a, b, HALF_TURN) == pytest.approx(np.radians(10))
    assert metrics.rotation_error(a, b, CONTINUOUS) == pytest.approx(0, abs=1e-6)


def test_translation_error_at_the_origin_and_at_the_middle() -> None:
    assert metrics.translation_error(pose((3, 0, 4)), pose()) == pytest.approx(5)
    half = pose(z_degrees=180)
    assert metrics.translation_error(half, pose(), anchor=np.array([0.5, 0, 0])) == pytest.approx(1)


def test_add_counts_corresponding_points_and_add_s_the_nearest() -> None:
    half = pose(z_degrees=180)
    assert metrics.add(half, pose(), PAIR) == pytest.approx(2)
    assert metrics.add_s(half, pose(), SURFACE) == pytest.approx(0)
    assert metrics.add_s(pose((0, 3, 0)), pose(), SURFACE) == pytest.approx(3)


def test_add_s_rotation_only_is_a_share_of_the_box_diagonal_and_ignores_where_the_origin_is() -> None:
    R = pose(z_degrees=90)[:3, :3]
    shifted = PAIR + np.array([10, 0, 0])
    for points in (PAIR, shifted):
        # After a quarter turn every point is sqrt(2) from the nearest of the other two; the diagonal is 2.
        assert metrics.add_s_rotation_only(R, np.eye(3), metrics.Surface.of(points)) == pytest.approx(np.sqrt(2) / 2)


def test_add_s_measures_from_the_true_points_wherever_both_poses_are() -> None:
    far = pose((5, 6, 7), z_degrees=33)
    estimated = far @ pose((0, 0, 0.25), z_degrees=180)
    assert metrics.add_s(estimated, far, SURFACE) == pytest.approx(0.25)


def test_surface_measures_a_part_of_its_points_against_all() -> None:
    points = np.random.default_rng(0).normal(size=(5000, 3))
    surface = metrics.Surface.of(points, measured=1000)
    assert (len(surface.points), surface.tree.n) == (1000, 5000)
    assert surface.diameter == pytest.approx(np.linalg.norm(points.max(0) - points.min(0)))
    with pytest.raises(ValueError, match="points"):
        metrics.Surface.of(np.full((3, 3), np.inf))


def test_mssd_is_the_largest_distance_over_the_best_symmetry() -> None:
    estimated = pose((0, 0, 0.5), z_degrees=180)
    assert metrics.mssd(estimated, pose(), PAIR) == pytest.approx(np.hypot(2, 0.5))
    assert metrics.mssd(estimated, pose(), PAIR, HALF_TURN) == pytest.approx(0.5)


def test_mssd_of_a_continuous_axis_does_not_see_the_ten_degree_steps() -> None:
    assert metrics.mssd(pose(z_degrees=44.0), pose(), PAIR, CONTINUOUS) == pytest.approx(0, abs=1e-9)


def test_mspd_in_pixels_and_infinite_behind_the_camera() -> None:
    K = np.array([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])
    true, estimated = pose((0, 0, 2)), pose((0.2, 0, 2))
    assert metrics.mspd(estimated, true, PAIR, K) == pytest.approx(10)  # 0.2 m at 2 m with 100 px
    assert metrics.mspd(pose((0, 0, 2), z_degrees=180), true, PAIR, K, HALF_TURN) == pytest.approx(0, abs=1e-9)
    assert metrics.mspd(pose((0, 0, -2)), true, PAIR, K) == float("inf")


def test_topk_accuracy() -> None:
    ranked = [["a", "b"], ["b", "a"], ["c"], []]
    truth = ["a", "a", "a", "a"]
    assert metrics.topk_accuracy(ranked, truth, 1) == 0.25
    assert metrics.topk_accuracy(ranked, truth, 2) == 0.5
    assert metrics.topk_accuracy([], [], 1) is None
    with pytest.raises(ValueError, match="equal lengths, got 1 and 0"):
        metrics.topk_accuracy([["a"]], [], 1)
    with pytest.raises(ValueError, match="k: expected at least 1"):
        metrics.topk_accuracy(ranked, truth, 0)


def test_summary_and_share() -> None:
    assert metrics.percentile_summary(list(range(11))) == metrics.Summary(5.0, 9.0, 11)
    assert metrics.percentile_summary([]) == metrics.Summary(None, None, 0)
    assert metrics.share_below([0.1, 0.2, 0.3, 0.4], 0.3) == 0.5
    assert metrics.share_below([], 1.0) is None
