"""The pose filter: at rest it averages, in motion it follows at any rate, and a single wild look is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pasr_perception.config import TrackConfig
from pasr_perception.geometry.se3 import is_rotation, make_T, rotation_angle
from pasr_perception.track.motion import (
    COASTING_S,
    FASTEST,
    GATE,
    VOTES,
    Measured,
    at_rest,
    begin,
    difference,
    moved,
    predict,
    update,
)

CONFIG, DISTANCE = TrackConfig(), 2.0
NOISE = np.array([0.01, 0.01, 0.04, 0.07, 0.07, 0.07])
R = np.diag(NOISE**2)
START = make_T(Rotation.from_euler("xyz", [0.4, -0.3, 1.0]).as_matrix(), np.array([0.2, 0.1, DISTANCE]))


def test_difference_undoes_moved():
    step = np.array([0.1, -0.2, 0.3, 0.5, -0.4, 0.2])
    np.testing.assert_allclose(difference(moved(START, step), START), step, atol=1e-12)


@pytest.mark.parametrize("rate", [2.0, 30.0])
def test_at_rest_noise_is_averaged_away(rate):
    rng = np.random.default_rng(0)
    motion = begin(moved(START, rng.normal(size=6) * NOISE), R, 0)
    steps, last = [], motion.T_ref_mid
    for i in range(1, 61):
        motion = predict(motion, int(i * 1e9 / rate), DISTANCE, CONFIG)
        motion, _ = update(motion, Measured(moved(START, rng.normal(size=6) * NOISE), R, DISTANCE), CONFIG)
        steps.append(rotation_angle(last[:3, :3], motion.T_ref_mid[:3, :3]))
        last = motion.T_ref_mid
    assert not motion.moving
    assert np.degrees(rotation_angle(motion.T_ref_mid[:3, :3], START[:3, :3])) < 3
    assert np.degrees(np.sqrt(np.mean(np.square(steps[20:])))) < 1.5
    assert np.linalg.norm(motion.T_ref_mid[:3, 3] - START[:3, 3]) < 0.02


@pytest.mark.parametrize("rate", [5.0, 30.0])
def test_motion_is_noticed_and_followed(rate):
    rng, twist = np.random.default_rng(1), np.array([0.3, 0.0, 0.0, 0.0, 0.6, 0.0])
    motion = begin(START, R, 0)
    truth = START
    for i in range(1, int(4 * rate)):
        truth = moved(truth, twist / rate)
        motion = predict(motion, int(i * 1e9 / rate), DISTANCE, CONFIG)
        motion, _ = update(motion, Measured(moved(truth, 0.5 * rng.normal(size=6) * NOISE), R, DISTANCE), CONFIG)
    assert motion.moving
    assert np.linalg.norm(motion.T_ref_mid[:3, 3] - truth[:3, 3]) < 0.08
    assert np.degrees(rotation_angle(motion.T_ref_mid[:3, :3], truth[:3, :3])) < 12
    ahead = predict(motion, motion.stamp_ns + 4 * 10**8, DISTANCE, CONFIG)
    np.testing.assert_allclose(ahead.T_ref_mid[:3, 3] - motion.T_ref_mid[:3, 3], 0.4 * motion.twist[:3], atol=1e-9)
    unseen = predict(
        ahead, motion.stamp_ns + 10**10, DISTANCE, CONFIG
    )  # nobody knows where it went: it is held to wait
    np.testing.assert_allclose(
        unseen.T_ref_mid[:3, 3] - motion.T_ref_mid[:3, 3], COASTING_S * motion.twist[:3], atol=1e-9
    )
    assert np.linalg.norm(motion.twist[:3] - twist[:3]) < 0.4  # an acceleration of 2 m/s^2 is allowed for


def test_a_wild_look_is_refused():
    motion = begin(START, R, 0)
    for i in range(1, 10):
        motion, _ = update(predict(motion, i * 10**8, DISTANCE, CONFIG), Measured(START, R, DISTANCE), CONFIG)
    wild = moved(START, np.array([0, 0, 0.5, 0, 1.2, 0]))
    after, fit = update(motion, Measured(wild, R, DISTANCE), CONFIG)
    assert fit.distance > GATE
    assert not fit.accepted
    np.testing.assert_array_equal(after.T_ref_mid, motion.T_ref_mid)


def test_covariance_grows_with_a_gap_and_poses_stay_rigid():
    motion = begin(START, R, 0)
    later = predict(motion, 3 * 10**9, DISTANCE, CONFIG)
    assert (np.diag(later.P)[:6] > np.diag(motion.P)[:6]).all()
    assert is_rotation(later.T_ref_mid[:3, :3])
    assert predict(motion, 0, DISTANCE, CONFIG) is motion


def test_a_pose_that_was_wrong_is_put_right_without_a_movement():
    motion = begin(START, R, 0)
    other = moved(START, np.array([0, 0, 0, 0, 1.4, 0]))
    for i in range(1, 12):
        motion, _ = update(predict(motion, i * 10**8, DISTANCE, CONFIG), Measured(other, R, DISTANCE), CONFIG)
    assert not motion.moving
    np.testing.assert_allclose(motion.T_ref_mid, other, atol=0.02)


def test_measurements_elsewhere_are_believed_once_enough_of_them_agree():
    motion, other = begin(START, R, 0), moved(START, np.array([0, 0, 0, 0, 1.4, 0]))
    for i in range(1, VOTES):
        motion, fit = update(motion, Measured(other, R, DISTANCE), CONFIG)
        assert (fit.accepted, motion.votes) == (False, i)
        np.testing.assert_array_equal(motion.T_ref_mid, START)
    motion, fit = update(motion, Measured(other, R, DISTANCE), CONFIG)
    assert fit.begun
    np.testing.assert_array_equal(motion.T_ref_mid, other)


def test_measurements_elsewhere_that_disagree_are_not_believed():
    motion = begin(START, R, 0)
    for i in range(12):
        turn = np.array([0, 0, 0, 0, (1.2, -1.2)[i % 2], 0])
        motion, fit = update(motion, Measured(moved(START, turn), R, DISTANCE), CONFIG)
        assert not fit.accepted
    np.testing.assert_array_equal(motion.T_ref_mid, START)


def test_wrong_maxima_on_one_side_are_no_motion_while_the_box_is_where_it_was():
    for displaced in (False, True):
        motion = begin(START, R, 0)
        for i in range(1, 9):
            motion = predict(motion, i * 10**8, DISTANCE, CONFIG)
            turn = np.array([0, 0, 0, 0, 0.8 + 0.5 * (i % 3), 0])
            motion, _ = update(motion, Measured(moved(START, turn), R, DISTANCE, displaced), CONFIG)
        assert motion.moving is displaced


def test_one_that_fits_takes_the_votes_back():
    motion, other = begin(START, R, 0), moved(START, np.array([0, 0, 0, 0, 1.4, 0]))
    for pose in (*[other] * (VOTES - 1), START, other):
        motion, fit = update(motion, Measured(pose, R, DISTANCE), CONFIG)
    assert (fit.accepted, motion.votes) == (False, 1)


def test_no_speed_beyond_belief():
    motion, truth = begin(START, R, 0), START
    for i in range(1, 40):
        truth = moved(truth, np.array([0.12, 0, 0, 0, 0.2, 0]))  # per 0.1 s
        motion, _ = update(predict(motion, i * 10**8, DISTANCE, CONFIG), Measured(truth, R, DISTANCE), CONFIG)
        assert np.linalg.norm(motion.twist[:3]) <= FASTEST[0] * DISTANCE + 1e-9
        assert np.linalg.norm(motion.twist[3:]) <= FASTEST[1] + 1e-9
    still = at_rest(motion)
    assert not still.moving
    np.testing.assert_array_equal(predict(still, 10**10, DISTANCE, CONFIG).T_ref_mid, motion.T_ref_mid)
