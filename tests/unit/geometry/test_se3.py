"""Rigid transforms and quaternions to 1e-9, and the exponential map with its gradient at zero."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from transforms3d.axangles import axangle2mat
from transforms3d.euler import euler2mat

from pasr_perception.geometry.se3 import (
    exp_so3,
    invert_T,
    is_rotation,
    make_T,
    quaternion_xyzw,
    quaternions_xyzw,
    rotation_angle,
    rotation_from_quaternion_xyzw,
)


def rotations(count: int = 50) -> np.ndarray:
    return Rotation.random(count, rng=np.random.default_rng(0)).as_matrix()


def test_inverse_undoes_the_transform():
    for i, R in enumerate(rotations()):
        T = make_T(R, np.array([0.3 * i, -2.0, 7.0]))
        np.testing.assert_allclose(invert_T(T) @ T, np.eye(4), atol=1e-12)
        np.testing.assert_allclose(T @ invert_T(T), np.eye(4), atol=1e-12)


def test_transforms_move_points_by_rotation_then_translation():
    T = make_T(euler2mat(0, 0, math.pi / 2), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(T @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)


def test_quaternions_survive_the_round_trip_and_agree_with_scipy():
    for R in rotations():
        q = quaternion_xyzw(R)
        expected = Rotation.from_matrix(R).as_quat()
        np.testing.assert_allclose(q * np.sign(q[3]), expected * np.sign(expected[3]), atol=1e-9)
        np.testing.assert_allclose(rotation_from_quaternion_xyzw(q), R, atol=1e-9)
        assert q[3] >= 0
        assert abs(np.linalg.norm(q) - 1) < 1e-12


def test_quaternions_of_many_are_those_of_each_half_turns_among_them():
    half_turns = [
        axangle2mat(axis, math.pi) for axis in np.vstack([np.eye(3), np.random.default_rng(0).normal(size=(20, 3))])
    ]
    R = np.stack([*rotations(), *half_turns])
    found, expected = quaternions_xyzw(R), np.stack([quaternion_xyzw(r) for r in R])
    assert (found[:, 3] >= 0).all()
    np.testing.assert_allclose(np.abs((found * expected).sum(1)), 1, atol=1e-12)  # q and -q of a half turn are the same
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-12)
    assert quaternions_xyzw(np.zeros((0, 3, 3))).shape == (0, 4)


def test_quaternion_order_is_ros_xyzw():
    np.testing.assert_allclose(quaternion_xyzw(np.eye(3)), [0, 0, 0, 1], atol=1e-12)
    half = math.sqrt(0.5)
    np.testing.assert_allclose(quaternion_xyzw(axangle2mat((0, 0, 1), math.pi / 2)), [0, 0, half, half], atol=1e-12)


def test_an_unnormalised_quaternion_is_normalised():
    half = rotation_from_quaternion_xyzw(np.array([0, 0, 3.0, 3.0]))
    np.testing.assert_allclose(half, axangle2mat((0, 0, 1), math.pi / 2), atol=1e-12)


@pytest.mark.parametrize("q", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [0, 0, 1]])
def test_a_bad_quaternion_is_refused_by_name(q: list[float]):
    with pytest.raises(ValueError, match="q: expected"):
        rotation_from_quaternion_xyzw(np.array(q))


def test_a_reflection_is_no_rotation():
    assert is_rotation(np.eye(3))
    assert not is_rotation(np.diag([1.0, 1.0, -1.0]))
    assert not is_rotation(1.001 * np.eye(3))
    assert is_rotation(1.001 * np.eye(3), tol=1e-2)
    assert not is_rotation(np.full((3, 3), np.nan))
    assert not is_rotation(np.full((3, 3), 1e200))
    assert not is_rotation(np.eye(4))
    with pytest.raises(ValueError, match="R: expected a rotation"):
        quaternion_xyzw(np.diag([1.0, 1.0, -1.0]))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, math.pi / 2, math.pi - 1e-9, math.pi])
def test_angle_between_rotations(angle: float):
    for R in rotations(5):
        turned = R @ axangle2mat((0.6, 0.0, 0.8), angle)
        assert rotation_angle(R, turned) == pytest.approx(angle, abs=1e-12 if angle < 1 else 1e-9)
        assert rotation_angle(turned, R) == pytest.approx(angle, abs=1e-12 if angle < 1 else 1e-9)


@pytest.mark.parametrize("length", [0.0, 1e-12, 1e-3, 0.0099, 0.0101, 1.0, 3.1, 6.0])
def test_exp_agrees_with_scipy_on_both_sides_of_the_series(length: float):
    axis = np.array([0.48, -0.6, 0.64])
    got = exp_so3(torch.tensor(axis * length)).numpy()
    np.testing.assert_allclose(got, Rotation.from_rotvec(axis * length).as_matrix(), atol=1e-14)


def test_exp_keeps_batch_shape_and_type():
    R = exp_so3(torch.zeros(2, 5, 3))
    assert R.shape == (2, 5, 3, 3)
    assert R.dtype == torch.float32
    assert torch.equal(R, torch.eye(3).expand(2, 5, 3, 3))


@pytest.mark.parametrize("length", [0.0, 1e-3, 0.5])
def test_exp_has_the_right_gradient_zero_included(length: float):
    v = (torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64) * length).requires_grad_()
    assert torch.autograd.gradcheck(exp_so3, (v,), eps=1e-6, atol=1e-7)


def test_the_gradient_at_zero_is_the_cross_product():
    v = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    point = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda w: exp_so3(w) @ point, v)
    expected = torch.tensor([[0, 3.0, -2.0], [-3.0, 0, 1.0], [2.0, -1.0, 0]], dtype=torch.float64)
    torch.testing.assert_close(jacobian, expected, atol=1e-12, rtol=0)
