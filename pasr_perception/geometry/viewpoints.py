"""Pose sets: the rotations that the coarse search tries (PASR 3.3, and the whole of SO(3)).

A rotation here is `R_crop_obj`: object axes to the crop camera's optical axes (x right, y down, z forward). It is built as
PASR does, from elevation, azimuth and in-plane angle, around the mesh's own `up` axis.
"""

from __future__ import annotations

import math

import numpy as np

POSE_SETS = ("upright", "so3")
UP_AXES = ("+x", "-x", "+y", "-y", "+z", "-z")

# PASR's 192: 4 elevations x 12 azimuths x 4 in-plane rotations
UPRIGHT_ELEVATIONS = np.linspace(-math.pi / 6, math.pi / 3, 4)
UPRIGHT_AZIMUTHS = np.arange(12) * (2 * math.pi / 12)
UPRIGHT_INPLANE = np.linspace(-math.pi / 6, math.pi / 6, 4)

# near 20 degrees: 100 directions are 20.3 degrees apart; 5 rolls in each of 4 quarter turns are 18 degrees apart
SO3_VIEWPOINTS = 100
SO3_ROLLS = np.radians([-36.0, -18.0, 0.0, 18.0, 36.0])
QUARTER_TURNS = {"upright": (0,), "so3": (0, 1, 2, 3)}


def up_rotation(up: str) -> np.ndarray:
    """Proper rotation [3, 3] that turns the mesh's `up` axis ("+y", "+z", ...) to +Y of the canonical frame."""
    if up not in UP_AXES:
        raise ValueError(f"up: expected one of {', '.join(UP_AXES)}, got {up!r}")
    axis = np.zeros(3)
    axis["xyz".index(up[1])] = 1.0 if up[0] == "+" else -1.0
    # the next axis in cyclic order goes to +Z, so that +y is the identity and handedness is kept
    forward = np.roll(np.abs(axis), 1)
    return np.stack([np.cross(axis, forward), axis, forward])


def look_at(elevation: float, azimuth: float, inplane: float = 0.0) -> np.ndarray:
    """R_crop_canonical [3, 3] of a camera at (elevation, azimuth) around +Y, looking at the origin, rolled by `inplane`.

    The camera sits at (cos e sin a, sin e, cos e cos a), as PyTorch3D's `look_at_view_transform` puts it; a positive in-plane
    angle turns the object clockwise in the image (about the optical axis).
    """
    ce, se, ca, sa = math.cos(elevation), math.sin(elevation), math.cos(azimuth), math.sin(azimuth)
    forward = -np.array([ce * sa, se, ce * ca])
    right = np.array([ca, 0.0, -sa])
    down = np.cross(forward, right)
    return roll(inplane) @ np.stack([right, down, forward])


def roll(angle: float) -> np.ndarray:
    """Rotation [3, 3] about the optical axis; positive turns what is seen clockwise in the image."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def quarter_turn(count: int) -> np.ndarray:
    """Exact rotation [3, 3] about the optical axis by `count` clockwise quarter turns."""
    return np.round(roll(count * math.pi / 2))


def fibonacci_directions(count: int) -> np.ndarray:
    """Nearly even unit directions [count, 3] over the sphere (golden spiral)."""
    i = np.arange(count) + 0.5
    y = 1 - 2 * i / count
    angle = math.pi * (1 + math.sqrt(5)) * i
    r = np.sqrt(1 - y * y)
    return np.stack([r * np.cos(angle), y, r * np.sin(angle)], -1)


def direction_angles(directions: np.ndarray) -> np.ndarray:
    """(elevation, azimuth) [N, 2] of camera directions [N, 3] in the canonical frame."""
    return np.stack([np.arcsin(np.clip(directions[:, 1], -1, 1)), np.arctan2(directions[:, 0], directions[:, 2])], -1)


def base_poses(name: str, up: str = "+y") -> np.ndarray:
    """The rotations R_crop_obj [P, 3, 3] of a pose set that templates are made of.

    Together with `QUARTER_TURNS[name]` they are the whole set: a quarter turn of the object is a quarter turn of the image,
    which costs no template (and convolutional features only compare well between similar rolls).
    """
    if name == "upright":
        angles = [(e, a, t) for e in UPRIGHT_ELEVATIONS for a in UPRIGHT_AZIMUTHS for t in UPRIGHT_INPLANE]
    elif name == "so3":
        angles = [(e, a, t) for e, a in direction_angles(fibonacci_directions(SO3_VIEWPOINTS)) for t in SO3_ROLLS]
    else:
        raise ValueError(f"pose_set: expected one of {', '.join(POSE_SETS)}, got {name!r}")
    return np.stack([look_at(*angle) for angle in angles]) @ up_rotation(up)


def pose_set(name: str, up: str = "+y") -> np.ndarray:
    """All rotations R_crop_obj [P, 3, 3] float64 of a named pose set, for a mesh whose `up` axis is given."""
    base = base_poses(name, up)
    return np.concatenate([quarter_turn(turn) @ base for turn in QUARTER_TURNS[name]])


def view_poses(name: str, up: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` rotations [V, 3, 3] to look at a mesh from: spread over what the pose set's templates cover, rolls random."""
    if name == "upright":
        # even in sin(elevation) and azimuth over the pose set's range and half a step more
        i = np.arange(count) + 0.5
        low, high = np.sin(UPRIGHT_ELEVATIONS[0] - math.radians(10)), np.sin(UPRIGHT_ELEVATIONS[-1] + math.radians(15))
        angles = np.stack([np.arcsin(low + (high - low) * i / count), math.pi * (1 + math.sqrt(5)) * i], -1)
        reach = math.radians(35)
    else:
        angles = direction_angles(fibonacci_directions(count))
        reach = math.radians(50)
    rolls = rng.uniform(-reach, reach, count)
    return np.stack([look_at(e, a, t) for (e, a), t in zip(angles, rolls, strict=True)]) @ up_rotation(up)


def random_rotations(count: int, rng: np.random.Generator) -> np.ndarray:
    """Rotations [count, 3, 3] drawn evenly from SO(3)."""
    q = rng.normal(size=(count, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        1,
    )
