"""Where an object is over time: a Kalman filter of pose and twist on SE(3), with a model of rest and one of motion.

The state is the pose of the object's middle in a frame that stands still (or the camera's, where none is known), and its
twist. Errors are small vectors in that frame's axes: T = (exp(e_r) R, t + e_t). At rest the twist is zero and the pose may
only creep, so looks from many sides average; innovations that keep pointing the same way say that it moves, and the
constant-velocity model with white acceleration takes over. Anywhere from 1 Hz to 100 Hz will do: all noises are densities.

Measurements beyond the gate move nothing. Several in a row that agree on another pose are believed: the pose held so far was
wrong, or the object was put elsewhere unseen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from pasr_perception.config import TrackConfig
from pasr_perception.geometry.se3 import make_T

CREEP = np.array([0.002, 0.002, 0.002, 0.007, 0.007, 0.007])  # of a pose at rest, per root second: m at 1 m, rad
START_SPEED = 0.05  # standard deviation of the twist when motion begins, m/s at 1 m and rad/s
GATE = 22.0  # squared Mahalanobis distance of six numbers that 1 measurement in 800 passes
BIAS_MEMORY = 0.7  # of the mean whitened innovation, per measurement
BIAS_LIMIT = 40.0  # squared length of that mean, over its variance, from which an object moves
VOTES = 3  # measurements beyond the gate that must agree before they are believed
COASTING_S = 0.5  # an object in motion that is not measured is predicted to go on for so long, then to stand still
FASTEST = np.array([0.5, 1.0])  # twist that is believed at most: m/s at 1 m, rad/s
REST_LOOKS = 5  # slow looks in a row after which it is at rest again


@dataclass(frozen=True)
class Motion:
    """What the filter knows at one stamp."""

    T_ref_mid: np.ndarray  # [4, 4] of the object's middle, axes those of the object
    twist: np.ndarray  # [6] v, w in the reference frame's axes
    P: np.ndarray  # [12, 12] of (e_t, e_r, e_v, e_w)
    stamp_ns: int
    moving: bool = False
    bias: np.ndarray | None = None  # [6] mean whitened innovation
    slow: int = 0  # looks in a row in which it hardly moved
    fitted_ns: int = 0  # stamp of the last measurement that was believed
    elsewhere: np.ndarray | None = None  # [4, 4] where measurements beyond the gate find it
    votes: int = 0  # of them in a row that agree


@dataclass(frozen=True)
class Measured:
    """One measurement."""

    T_ref_mid: np.ndarray  # [4, 4]
    R: np.ndarray  # [6, 6] its covariance
    distance: float  # from the camera, metres
    displaced: bool = True  # its boxes say that it moves (`bearings.py`)
    votes: int = VOTES  # of measurements beyond the gate that must agree before they are believed


@dataclass(frozen=True)
class Fit:
    """How a measurement fitted what was predicted."""

    distance: float  # squared Mahalanobis distance
    accepted: bool
    begun: bool = False  # the pose was put there, whatever had been predicted


def begin(T_ref_mid: np.ndarray, R: np.ndarray, stamp_ns: int) -> Motion:
    """A first look at an object: measured pose [4, 4] with covariance R [6, 6]."""
    P = np.zeros((12, 12))
    P[:6, :6] = R
    return Motion(T_ref_mid, np.zeros(6), P, stamp_ns, bias=np.zeros(6), fitted_ns=stamp_ns)


def predict(motion: Motion, stamp_ns: int, distance: float, config: TrackConfig) -> Motion:
    """The state at a later stamp; `distance` [m] from the camera scales what noise in metres means."""
    dt = (stamp_ns - motion.stamp_ns) * 1e-9
    if dt <= 0:
        return motion
    scale = np.array([distance] * 3 + [1.0] * 3)
    F, Q = np.eye(12), np.zeros((12, 12))
    T = motion.T_ref_mid
    if motion.moving:
        F[:6, 6:] = dt * np.eye(6)
        q = (config.acceleration * scale) ** 2
        Q[:6, :6], Q[6:, 6:] = np.diag(q * dt**3 / 3), np.diag(q * dt)
        Q[:6, 6:] = Q[6:, :6] = np.diag(q * dt**2 / 2)
        until = motion.fitted_ns + COASTING_S * 1e9
        T = moved(T, motion.twist * max(min(dt, (until - motion.stamp_ns) * 1e-9), 0.0))
    else:
        Q[:6, :6] = np.diag((CREEP * scale) ** 2 * dt)
    return replace(motion, T_ref_mid=T, P=F @ motion.P @ F.T + Q, stamp_ns=stamp_ns)


def update(motion: Motion, measured: Measured, config: TrackConfig) -> tuple[Motion, Fit]:
    """The state after a measurement of the same stamp.

    One beyond the gate changes nothing until enough of them agree. Where the boxes move as well, it counts as a sign of
    motion; else it is one more wrong maximum, of which there are many on the same side.
    """
    R, distance = measured.R, measured.distance
    innovation = difference(measured.T_ref_mid, motion.T_ref_mid)
    S = motion.P[:6, :6] + R
    whitened = np.linalg.solve(np.linalg.cholesky(S), innovation)
    far = float(whitened @ whitened)
    if far <= GATE or measured.displaced:
        motion = replace(motion, bias=_mean_innovation(motion, whitened))
    if far > GATE:
        motion = _voted(motion, measured)
        if motion.votes >= measured.votes:
            return begin(measured.T_ref_mid, R, motion.stamp_ns), Fit(far, True, begun=True)
    if not motion.moving and _points_one_way(motion):
        motion = _set_off(motion, distance)
        S = motion.P[:6, :6] + R
    elif far > GATE:
        return motion, Fit(far, False)
    K = np.linalg.solve(S, motion.P[:6]).T  # [12, 6]
    step = K @ innovation
    if not motion.moving:
        step[6:] = 0
    I_KH = np.eye(12)
    I_KH[:, :6] -= K
    P = I_KH @ motion.P @ I_KH.T + K @ R @ K.T
    twist = _believed(motion.twist + step[6:], distance)
    T = moved(motion.T_ref_mid, step[:6])
    motion = replace(motion, T_ref_mid=T, twist=twist, P=P, fitted_ns=motion.stamp_ns, elsewhere=None, votes=0)
    return _settled(motion, distance, config), Fit(far, True)


def moved(T: np.ndarray, step: np.ndarray) -> np.ndarray:
    """T [4, 4] after a small movement [6] (translation, rotation vector) in the reference frame's axes."""
    return make_T(Rotation.from_rotvec(step[3:]).as_matrix() @ T[:3, :3], T[:3, 3] + step[:3])


def difference(T_a: np.ndarray, T_b: np.ndarray) -> np.ndarray:
    """The movement [6] that takes T_b to T_a: `moved(T_b, difference(T_a, T_b))` is T_a."""
    turn = Rotation.from_matrix(T_a[:3, :3] @ T_b[:3, :3].T).as_rotvec()
    return np.concatenate([T_a[:3, 3] - T_b[:3, 3], turn])


def rotated_covariance(C: np.ndarray, R_a_b: np.ndarray) -> np.ndarray:
    """A covariance [6, 6] given in axes b, in axes a."""
    turn = np.kron(np.eye(2), R_a_b)
    return turn @ C @ turn.T


def at_rest(motion: Motion) -> Motion:
    """The same, standing still from now on."""
    P = motion.P.copy()
    P[6:], P[:, 6:] = 0, 0
    return replace(motion, moving=False, twist=np.zeros(6), P=P, slow=0, bias=np.zeros(6))


def _mean_innovation(motion: Motion, whitened: np.ndarray) -> np.ndarray:
    bounded = whitened * min(1.0, np.sqrt(GATE / max(float(whitened @ whitened), 1e-12)))  # one wild look moves nothing
    return BIAS_MEMORY * (np.zeros(6) if motion.bias is None else motion.bias) + (1 - BIAS_MEMORY) * bounded


def _points_one_way(motion: Motion) -> bool:
    """Whether the mean innovation is longer than that of white ones would be."""
    variance = (1 - BIAS_MEMORY) / (1 + BIAS_MEMORY)  # of that mean, were innovations white
    return motion.bias is not None and float(motion.bias @ motion.bias) / variance > 6 + BIAS_LIMIT


def _voted(motion: Motion, measured: Measured) -> Motion:
    """With one more measurement beyond the gate."""
    agrees = False
    if motion.elsewhere is not None:
        off = difference(measured.T_ref_mid, motion.elsewhere)
        agrees = float(off @ np.linalg.solve(2 * measured.R, off)) <= GATE
    return replace(motion, elsewhere=measured.T_ref_mid, votes=motion.votes + 1 if agrees else 1)


def _believed(twist: np.ndarray, distance: float) -> np.ndarray:
    speeds = np.array([np.linalg.norm(twist[:3]) / distance, np.linalg.norm(twist[3:])])
    share = np.minimum(1.0, FASTEST / np.maximum(speeds, 1e-12))
    return twist * np.repeat(share, 3)


def _set_off(motion: Motion, distance: float) -> Motion:
    P = motion.P.copy()
    P[6:], P[:, 6:] = 0, 0
    P[6:, 6:] = np.diag((START_SPEED * np.array([distance] * 3 + [1.0] * 3)) ** 2)
    P[:6, :6] *= 4
    return replace(motion, moving=True, P=P, bias=np.zeros(6), slow=0)


def _settled(motion: Motion, distance: float, config: TrackConfig) -> Motion:
    """At rest again after a row of slow looks."""
    if not motion.moving:
        return motion
    speed = max(float(np.linalg.norm(motion.twist[:3])) / distance, float(np.linalg.norm(motion.twist[3:])))
    slow = motion.slow + 1 if speed < config.rest_speed else 0
    if slow < REST_LOOKS:
        return replace(motion, slow=slow)
    return at_rest(motion)
