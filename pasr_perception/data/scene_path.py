"""A smooth camera path around a pile of objects: an orbit whose height, distance and aim drift along splines."""

from __future__ import annotations

import math

import numpy as np
from scipy.interpolate import CubicSpline

from pasr_perception.geometry.se3 import make_T

KNOTS = 5
ELEVATION = (math.radians(14), math.radians(42))
SWEEP = (math.radians(90), math.radians(200))
ROLL = math.radians(2.5)  # standard deviation of the camera's tilt about its axis


class OrbitPath:
    """T_world_cam as a smooth function of time 0..1, looking at objects within `radius` metres of the origin."""

    def __init__(self, radius: float, height: float, distance: float, rng: np.random.Generator) -> None:
        self._start = float(rng.uniform(0, 2 * math.pi))
        self._sweep = float(rng.uniform(*SWEEP)) * float(rng.choice([-1, 1]))
        at = np.linspace(0, 1, KNOTS)
        self._elevation = CubicSpline(at, rng.uniform(*ELEVATION, KNOTS))
        self._distance = CubicSpline(at, distance * rng.uniform(0.85, 1.1, KNOTS))
        self._roll = CubicSpline(at, rng.normal(0, ROLL, KNOTS))
        aims = rng.uniform(-0.12, 0.12, (KNOTS, 3)) * radius + np.array([0, 0, 0.4 * height])
        self._aim = CubicSpline(at, aims)

    def __call__(self, time: float) -> np.ndarray:
        """T_world_cam [4, 4] at `time` in 0..1."""
        azimuth = self._start + self._sweep * time
        # a spline may swing beyond its knots; the camera must neither enter the floor nor look straight down
        elevation = float(np.clip(self._elevation(time), ELEVATION[0] * 0.7, ELEVATION[1] * 1.2))
        distance = float(self._distance(time))
        ce, se = math.cos(elevation), math.sin(elevation)
        aim = self._aim(time)
        eye = aim + distance * np.array([ce * math.cos(azimuth), ce * math.sin(azimuth), se])
        return look_from(eye, aim, float(self._roll(time)))


def look_from(eye: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """T_world_cam [4, 4] of an optical camera at `eye` that looks at `target`, +z of the world up in the image."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right)
    level = np.stack([right, np.cross(forward, right), forward], -1)
    c, s = math.cos(roll), math.sin(roll)
    return make_T(level @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]), eye)
