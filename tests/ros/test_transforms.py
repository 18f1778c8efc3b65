"""Transforms over time: chains, interpolation, what is not known, and a bag that begins again."""

from __future__ import annotations

import numpy as np
import pytest

from pasr_perception.geometry.se3 import make_T, rotation_angle
from pasr_perception.ros.transforms import KEPT_NS, TransformException, TransformHistory

SECOND = 10**9


def turned(degrees: float, x: float = 0.0) -> np.ndarray:
    a = np.radians(degrees)
    R = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return make_T(R, np.array([x, 0.0, 0.0]))


@pytest.fixture
def history() -> TransformHistory:
    """map -> base, moving; base -> camera and base -> arm, fixed."""
    made = TransformHistory()
    made.add("map", "base", 1 * SECOND, turned(0, 0.0), static=False)
    made.add("map", "base", 2 * SECOND, turned(90, 1.0), static=False)
    made.add("base", "camera", 0, turned(0, 0.5), static=True)
    made.add("base", "arm", 0, turned(0, -0.5), static=True)
    return made


def test_between_two_stamps_the_pose_is_interpolated(history: TransformHistory) -> None:
    T = history.lookup("map", "base", 3 * SECOND // 2)
    assert np.degrees(rotation_angle(np.eye(3), T[:3, :3])) == pytest.approx(45)
    np.testing.assert_allclose(T[:3, 3], [0.5, 0, 0])
    np.testing.assert_allclose(history.lookup("map", "base", 2 * SECOND), turned(90, 1.0))


def test_frames_are_joined_over_their_common_ancestor(history: TransformHistory) -> None:
    np.testing.assert_allclose(history.lookup("map", "camera", 2 * SECOND), turned(90, 1.0) @ turned(0, 0.5))
    np.testing.assert_allclose(history.lookup("arm", "camera", 99 * SECOND), turned(0, 1.0))  # no need of map -> base
    there, back = (history.lookup(*pair, SECOND) for pair in (("camera", "map"), ("map", "camera")))
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    ("target", "source", "stamp_ns", "words"),
    [
        ("map", "camera", SECOND // 2, "transforms from 'map' to 'base' begin 0.500 s from the stamp asked for"),
        ("map", "camera", 5 * SECOND // 2, "transforms from 'map' to 'base' end 0.500 s from the stamp asked for"),
        (
            "odom",
            "camera",
            SECOND,
            "no chain of transforms joins 'odom' and 'camera'; child frames heard of: arm, base, camera",
        ),
    ],
)
def test_what_is_not_known_is_said(
    history: TransformHistory, target: str, source: str, stamp_ns: int, words: str
) -> None:
    with pytest.raises(TransformException, match=words):
        history.lookup(target, source, stamp_ns)


def test_ten_seconds_are_kept_and_a_bag_that_begins_again_replaces_them() -> None:
    history = TransformHistory()
    for second in (100, 101, 112):
        history.add("map", "base", second * SECOND, turned(0, second), static=False)
    with pytest.raises(TransformException, match="begin"):
        history.lookup("map", "base", 112 * SECOND - KEPT_NS - 1)
    history.add("map", "base", 100 * SECOND, turned(0, 7.0), static=False)
    np.testing.assert_allclose(history.lookup("map", "base", 100 * SECOND)[0, 3], 7.0)
    with pytest.raises(TransformException, match="end"):
        history.lookup("map", "base", 112 * SECOND)


def test_messages_out_of_order_are_sorted_in() -> None:
    history = TransformHistory()
    for second in (1, 3, 2):
        history.add("map", "base", second * SECOND, turned(0, second**2), static=False)
    assert history.lookup("map", "base", 5 * SECOND // 2)[0, 3] == pytest.approx(6.5)


def test_a_new_parent_replaces_the_old_one_and_a_loop_of_parents_ends() -> None:
    history = TransformHistory()
    history.add("a", "b", 0, turned(0, 1), static=True)
    history.add("c", "b", 0, turned(0, 2), static=True)
    with pytest.raises(TransformException):
        history.lookup("a", "b", 0)
    history.add("b", "c", 0, turned(0, 3), static=True)
    with pytest.raises(TransformException, match="no chain"):
        history.lookup("a", "b", 0)
