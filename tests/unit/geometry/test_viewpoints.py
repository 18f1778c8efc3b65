"""Pose sets: sizes, conventions and how densely they cover."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pasr_perception.geometry.viewpoints import (
    POSE_SETS,
    UP_AXES,
    fibonacci_directions,
    look_at,
    pose_set,
    random_rotations,
    up_rotation,
)


def nearest_angles(rotations: np.ndarray, poses: np.ndarray) -> np.ndarray:
    cosine = (np.einsum("aij,bij->ab", rotations, poses).max(1) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("name", POSE_SETS)
def test_every_pose_is_a_rotation(name):
    poses = pose_set(name)
    assert np.abs(poses @ poses.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
    assert np.linalg.det(poses).min() > 0.999


def test_upright_is_the_papers_192():
    assert len(pose_set("upright")) == 4 * 12 * 4


def test_so3_covers_all_rotations_within_15_degrees():
    angles = nearest_angles(random_rotations(1000, np.random.default_rng(0)), pose_set("so3"))
    assert np.median(angles) < 11
    assert angles.max() < 17


def test_upright_leaves_most_of_so3_uncovered():
    angles = nearest_angles(random_rotations(500, np.random.default_rng(0)), pose_set("upright"))
    assert (angles > 20).mean() > 0.5


def test_look_at_from_the_front_sees_x_right_and_y_up():
    R = look_at(0.0, 0.0)
    assert np.allclose(R @ [1, 0, 0], [1, 0, 0])  # object's +x is the image's right
    assert np.allclose(R @ [0, 1, 0], [0, -1, 0])  # object's +y is the image's up (y down)
    assert np.allclose(R @ [0, 0, 1], [0, 0, -1])  # object's +z faces the camera


@pytest.mark.parametrize(("elevation", "azimuth"), [(0.3, 1.0), (-0.5, 4.0), (1.2, 2.5)])
def test_camera_centre_is_pytorch3ds(elevation, azimuth):
    R = look_at(elevation, azimuth)
    centre = np.array(
        [math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth)]
    )
    assert np.allclose(
        R @ centre, [0, 0, -1]
    )  # seen from the object's origin the camera is towards -z of the optical frame


def test_inplane_turns_clockwise_in_the_image():
    right = look_at(0.0, 0.0, math.pi / 2) @ [1, 0, 0]
    assert np.allclose(right, [0, 1, 0])  # what pointed right now points down


@pytest.mark.parametrize("up", UP_AXES)
def test_up_rotation_brings_the_axis_to_y(up):
    axis = np.zeros(3)
    axis["xyz".index(up[1])] = 1 if up[0] == "+" else -1
    R = up_rotation(up)
    assert np.allclose(R @ axis, [0, 1, 0])
    assert np.isclose(np.linalg.det(R), 1)


def test_upright_keeps_the_up_axis_up_whatever_its_name():
    for up in UP_AXES:
        axis = np.zeros(3)
        axis["xyz".index(up[1])] = 1 if up[0] == "+" else -1
        towards_top = (pose_set("upright", up) @ axis)[:, 1]
        assert towards_top.max() < 0  # y is down: the top of the object points up in every pose


def test_directions_are_even():
    d = fibonacci_directions(100)
    angles = np.degrees(np.arccos(np.clip(d @ d.T - 2 * np.eye(100), -1, 1))).min(1)
    assert np.allclose(np.linalg.norm(d, axis=1), 1)
    assert 14 < angles.min() < angles.max() < 25


@pytest.mark.parametrize(("call", "words"), [(lambda: pose_set("all"), "pose_set"), (lambda: up_rotation("y"), "up")])
def test_unknown_names_are_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()
