"""What a rotational symmetry is: a mesh's group of rotations, its form in the manifest, and poses compared under it.

Continuous axes are handled exactly where an angle is measured, and in 10 degree steps where poses are listed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

CONTINUOUS_STEPS = 36  # how finely a continuous axis is written out in `Symmetry.rotations`
SAME_ROTATION = np.radians(6.0)
MAX_GROUP = 24  # the cube's; prisms have 2n <= 16. Larger: axes that do not fit together


def generate_group(axes: Sequence[Sequence[float]], folds: Sequence[Fold]) -> np.ndarray | None:
    """[S, 3, 3]: every rotation that axes and folds generate, identity first; None when they do not fit together."""
    if len(axes) > 1:
        sphere = Rotation.create_group("I").as_matrix()
        return sphere[np.argsort(-np.trace(sphere, axis1=1, axis2=2), kind="stable")]
    finite = closure([turn(fold.axis, 2 * np.pi / fold.n) for fold in folds])
    if finite is None or not axes:
        return finite
    around = np.stack([turn(axes[0], 2 * np.pi * i / CONTINUOUS_STEPS) for i in range(CONTINUOUS_STEPS)])
    flips = [R for R in finite if np.dot(R @ axes[0], axes[0]) < 0][:1]  # one flip of the axis is all a fold can add
    return np.concatenate([around] + [around @ R for R in flips])


def closure(generators: Sequence[np.ndarray]) -> np.ndarray | None:
    """[S, 3, 3]: all products of the generators, the identity first; None when they do not close within MAX_GROUP."""
    group = [np.eye(3)]
    frontier = list(group)
    while frontier:
        grown = []
        for R in frontier:
            for G in generators:
                product = G @ R
                if min(angle_between(product, known) for known in group) > SAME_ROTATION:
                    group.append(product)
                    grown.append(product)
        if len(group) > MAX_GROUP:
            return None
        frontier = grown
    return np.stack(group)


def angle_between(R_a: np.ndarray, R_b: np.ndarray) -> float:
    """Geodesic angle in radians between two rotations [3, 3]."""
    return float(np.arccos(np.clip((np.sum(R_a * R_b) - 1) / 2, -1, 1)))


def triple(v: np.ndarray) -> tuple[float, float, float]:
    return float(v[0]), float(v[1]), float(v[2])


def turn(axis: Sequence[float] | np.ndarray, angle: float) -> np.ndarray:
    """[3, 3]: rotation by `angle` radians about the unit vector `axis` [3]."""
    return Rotation.from_rotvec(np.asarray(axis) * angle).as_matrix()


@dataclass(frozen=True)
class Fold:
    """A rotation by 2*pi/n about `axis` leaves the surface as it is."""

    axis: tuple[float, float, float]
    n: int


@dataclass(frozen=True)
class Symmetry:
    """The rotations that leave a mesh's surface as it is, about the fixed point `center`."""

    continuous_axes: tuple[tuple[float, float, float], ...] = ()  # one: body of revolution; three: sphere
    folds: tuple[Fold, ...] = ()  # the generators beside the continuous axes
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)  # in the frame and unit of the points it was found on

    @cached_property
    def rotations(self) -> np.ndarray:
        """[S, 3, 3] float64, object axes to object axes, the identity first; raises ValueError if the axes do not fit together.

        Continuous axes are written out in steps of 10 degrees (and a sphere as the 60 rotations of an icosahedron), so for
        exact comparison use `closest_symmetric_rotation_error`. Made when first asked for: a large library opens without.
        """
        rotations = generate_group(self.continuous_axes, self.folds)
        if rotations is None:
            raise ValueError(f"symmetry.folds: these axes generate more than {MAX_GROUP} rotations: {list(self.folds)}")
        return rotations

    @property
    def is_trivial(self) -> bool:
        return len(self.rotations) == 1

    @property
    def transforms(self) -> np.ndarray:
        """[S, 4, 4]: the rotations about `center`, as maps of the object frame onto itself."""
        center = np.asarray(self.center)
        T = np.tile(np.eye(4), (len(self.rotations), 1, 1))
        T[:, :3, :3] = self.rotations
        T[:, :3, 3] = center - self.rotations @ center
        return T

    def moved(self, scale: float, offset: np.ndarray) -> Symmetry:
        """The same symmetry in the frame where p' = p * scale + offset (e.g. normalised to mesh file)."""
        center = np.asarray(self.center) * scale + np.asarray(offset, dtype=np.float64)
        return replace(self, center=triple(center))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the library's manifest; `from_dict` reads it back."""
        return {
            "continuous_axes": [list(axis) for axis in self.continuous_axes],
            "folds": [{"axis": list(fold.axis), "n": fold.n} for fold in self.folds],
            "center": list(self.center),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Symmetry:
        """Read `to_dict`'s form; None or an empty mapping is "no symmetry".

        Raises ValueError for an unknown key, an axis that is not three finite numbers (or is zero), or a fold under 2. That the
        folds fit together shows when `rotations` are asked for.
        """
        data = data or {}
        unknown = set(data) - {"continuous_axes", "folds", "center"}
        if unknown:
            raise ValueError(f"symmetry: unknown key(s) {sorted(unknown)}; expected continuous_axes, folds, center")
        axes = tuple(_unit_triple(axis, "symmetry.continuous_axes") for axis in data.get("continuous_axes", ()))
        folds = tuple(_read_fold(fold) for fold in data.get("folds", ()))
        center = _three(data.get("center", (0.0, 0.0, 0.0)))
        if center is None:
            raise ValueError(f"symmetry.center: expected three finite numbers, got {data['center']!r}")
        return cls(axes, folds, center)


NO_SYMMETRY = Symmetry()


def _read_fold(data: Any) -> Fold:
    if not isinstance(data, Mapping) or set(data) != {"axis", "n"}:
        raise ValueError(f"symmetry.folds: expected mappings with axis and n, got {data!r}")
    if not isinstance(data["n"], int) or data["n"] < 2:
        raise ValueError(f"symmetry.folds.n: expected a whole number of at least 2, got {data['n']!r}")
    return Fold(_unit_triple(data["axis"], "symmetry.folds.axis"), data["n"])


def _unit_triple(axis: Any, name: str) -> tuple[float, float, float]:
    v = _three(axis)
    norm = 0.0 if v is None else math.hypot(*v)
    if v is None or norm < 1e-9:
        raise ValueError(f"{name}: expected three finite numbers, not all zero, got {axis!r}")
    x, y, z = v
    return x / norm, y / norm, z / norm


def _three(values: Any) -> tuple[float, float, float] | None:
    """Three finite numbers, or None if it is anything else."""
    try:
        x, y, z = (float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return (x, y, z) if math.isfinite(x) and math.isfinite(y) and math.isfinite(z) else None


def equivalent_poses(T_cam_obj: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """[S, 4, 4]: every pose that looks the same as `T_cam_obj` [4, 4]; the pose itself comes first.

    `symmetry` must be in the object frame of the pose (see `Symmetry.moved`). Continuous axes come in 10 degree steps.
    """
    return np.asarray(T_cam_obj, dtype=np.float64) @ symmetry.transforms


def closest_symmetry(R_a: np.ndarray, R_b: np.ndarray, symmetry: Symmetry = NO_SYMMETRY) -> tuple[float, np.ndarray]:
    """The symmetry rotation S [3, 3] that brings R_a @ S nearest to R_b (both [3, 3]), and the angle left in radians.

    Exact for continuous axes: their best angle has a closed form. For a sphere S = R_a^T R_b and nothing is left.
    """
    if len(symmetry.continuous_axes) > 1:
        return 0.0, R_a.T @ R_b
    rotations = symmetry.rotations
    if symmetry.continuous_axes:
        axis = np.asarray(symmetry.continuous_axes[0])
        left = rotations.transpose(0, 2, 1) @ (R_a.T @ R_b)  # [S, 3, 3]: what is still missing after each
        x, y, z, w = Rotation.from_matrix(left).as_quat().T
        twist = 2 * np.arctan2(np.stack([x, y, z], 1) @ axis, w)  # its part about the axis
        rotations = rotations @ Rotation.from_rotvec(twist[:, None] * axis).as_matrix()
    trace = np.einsum("ij,sij->s", R_a.T @ R_b, rotations)
    best = int(np.argmax(trace))
    return angle_between(R_a @ rotations[best], R_b), rotations[best]


def closest_symmetric_rotation_error(R_a: np.ndarray, R_b: np.ndarray, symmetry: Symmetry = NO_SYMMETRY) -> float:
    """Angle in radians between two rotations [3, 3] of an object, the least over its symmetries."""
    return closest_symmetry(R_a, R_b, symmetry)[0]
