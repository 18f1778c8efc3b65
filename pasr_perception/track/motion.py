"""Where an object is over time: a Kalman filter of pose and twist on SE(3), with a model of rest and one of motion.

The state is the pose of the object's middle in a frame that stands still (or the camera's, where none is known), and its
twist. Errors are small vectors in that frame's axes: T = (exp(e_r) R, t + e_t). At rest the twist is zero and the pose may
only creep, so looks from many sides average; innovations that keep pointing the same way say that it moves, and the
constant-velocity model with white acceleration takes over. Anywhere from 1 Hz to 100 Hz will do: all noises are densities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from pasr_perception.config import TrackConfig
from pasr_perception.geometry.se3 import make_T

CREEP = np.array([0.004, 0.004, 0.004, 0.02, 0.02, 0.02])  # of a pose at rest, per root second: m at 1 m, rad
START_SPEED = 0.05  # standard deviation of the twist when motion begins, m/s at 1 m and rad/s
GATE = 22.0  # squared Mahalanobis distance of six numbers that 1 measurement in 800 passes
BIAS_MEMORY = 0.7  # of the mean whitened innovation, per measurement
BIAS_LIMIT = 14.0  # squared length of that mean, over its variance, from which an object moves
JUMP = np.array([0.25, 0.5])  # innovations beyond these are a mistake put right, not a movement: m at 1 m, rad
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


@dataclass(frozen=True)
class Fit:
    """How a measurement fitted what was predicted."""

    distance: float  # squared Mahalanobis distance
    accepted: bool


def begin(T_ref_mid: np.ndarray, R: np.ndarray, stamp_ns: int) -> Motion:
    """A first look at an object: measured pose [4, 4] with covariance R [6, 6]."""
    P = np.zeros((12, 12))
    P[:6, :6] = R
    return Motion(T_ref_mid, np.zeros(6), P, stamp_ns, bias=np.zeros(6))


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
        T = moved(T, motion.twist * dt)
    else:
        Q[:6, :6] = np.diag((CREEP * scale) ** 2 * dt)
    return replace(motion, T_ref_mid=T, P=F @ motion.P @ F.T + Q, stamp_ns=stamp_ns)


def update(
    motion: Motion, T_measured: np.ndarray, R: np.ndarray, distance: float, config: TrackConfig
) -> tuple[Motion, Fit]:
    """The state after a measured pose [4, 4] with covariance R [6, 6] of the same stamp.

    A measurement beyond the gate changes nothing but is counted in the innovations' mean, so an object that really jumped is
    followed after a few.
    """
    innovation = difference(T_measured, motion.T_ref_mid)
    S = motion.P[:6, :6] + R
    whitened = np.linalg.solve(np.linalg.cholesky(S), innovation)
    far = float(whitened @ whitened)
    bounded = whitened * min(1.0, np.sqrt(GATE / max(far, 1e-12)))  # one wild look alone moves nothing
    bias = BIAS_MEMORY * (np.zeros(6) if motion.bias is None else motion.bias) + (1 - BIAS_MEMORY) * bounded
    variance = (1 - BIAS_MEMORY) / (1 + BIAS_MEMORY)  # of that mean, were innovations white
    motion = replace(motion, bias=bias)
    if float(bias @ bias) / variance > 6 + BIAS_LIMIT and _is_jump(innovation, distance):
        return begin(T_measured, R, motion.stamp_ns), Fit(far, True)
    if not motion.moving and float(bias @ bias) / variance > 6 + BIAS_LIMIT:
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
    motion = replace(motion, T_ref_mid=moved(motion.T_ref_mid, step[:6]), twist=twist, P=P)
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


def _is_jump(innovation: np.ndarray, distance: float) -> bool:
    sizes = np.array([np.linalg.norm(innovation[:3]) / distance, np.linalg.norm(innovation[3:])])
    return bool((sizes > JUMP).any())


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
