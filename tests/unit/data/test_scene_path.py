from __future__ import annotations

import numpy as np

from pasr_perception.data.scene_path import OrbitPath, look_from


def test_the_target_is_in_the_middle_and_up_is_up():
    eye, target = np.array([2.0, 1, 1.5]), np.array([0.1, -0.2, 0.3])
    T = look_from(eye, target)
    at = T[:3, :3].T @ (target - T[:3, 3])
    np.testing.assert_allclose(at, [0, 0, np.linalg.norm(target - eye)], atol=1e-12)
    above = T[:3, :3].T @ (target + np.array([0, 0, 0.1]) - T[:3, 3])
    assert above[1] < -0.05
    assert abs(above[0]) < 1e-12
    assert np.linalg.det(T[:3, :3]) > 0.999999


def test_a_positive_roll_turns_the_world_anticlockwise_in_the_image():
    T = look_from(np.array([2.0, 0, 0]), np.zeros(3), roll=0.1)
    above = T[:3, :3].T @ (np.array([0, 0, 1.0]) - T[:3, 3])
    assert above[0] < 0
    np.testing.assert_allclose(np.arctan2(-above[0], -above[1]), 0.1, atol=1e-12)


def test_the_path_is_smooth_stays_outside_and_above_the_floor():
    for seed in range(5):
        path = OrbitPath(radius=1.0, height=0.8, distance=2.0, rng=np.random.default_rng(seed))
        poses = np.stack([path(t) for t in np.linspace(0, 1, 200)])
        steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
        assert steps.max() < 0.08
        assert np.abs(np.diff(steps)).max() < 0.01
        assert poses[:, 2, 3].min() > 0.3
        assert np.linalg.norm(poses[:, :2, 3], axis=1).min() > 1.0
        np.testing.assert_allclose(
            poses[:, :3, :3] @ poses[:, :3, :3].swapaxes(1, 2), np.eye(3)[None].repeat(200, 0), atol=1e-9
        )
