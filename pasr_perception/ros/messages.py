"""ROS messages out: which hypotheses may leave, under which names, in numbers. Pure functions.

books.py makes objects, transforms and markers of them, publish.py sends all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from geometry_msgs.msg import Point, Quaternion, Vector3

from pasr_perception.geometry.se3 import are_rotations, quaternions_xyzw
from pasr_perception.types import FrameResult, Hypothesis

ROTATION_TOLERANCE = 1e-4  # what float32 leaves of a rotation, with room
MAX_DISTANCE = 1e6  # metres
NO_POSE = np.full((4, 4), np.nan)
NOT_IN_FRAME_NAMES = re.compile(r"[^A-Za-z0-9._/-]")


class LibraryEntry(Protocol):
    """What the messages need to know of a mesh."""

    @property
    def id(self) -> str: ...
    @property
    def center(self) -> Sequence[float]: ...  # [3] metres, the bounding box's centre in the mesh frame
    @property
    def extent(self) -> Sequence[float]: ...  # [3] metres, the bounding box's size


@dataclass(frozen=True)
class Shape:
    """A mesh as RViz and Detection3D need it."""

    center: np.ndarray  # [3] metres, in the mesh frame
    extent: np.ndarray  # [3] metres
    uri: str  # file://...


PoseNumbers = tuple[float, ...]  # x y z of the position, x y z w of the unit quaternion


@dataclass(frozen=True)
class NamedHypotheses:
    """The ranked hypotheses of one object, best first, under the name that it has in all outputs."""

    name: str
    hypotheses: tuple[Hypothesis, ...]
    poses: Sequence[PoseNumbers] = ()  # one per hypothesis; made of them where none are given

    def __post_init__(self) -> None:
        if not self.poses:
            object.__setattr__(self, "poses", pose_numbers([h.T_cam_obj for h in self.hypotheses]))

    @property
    def best(self) -> Hypothesis:
        return self.hypotheses[0]

    def at(self, point: np.ndarray) -> list[float]:
        """Where a point [3] of the best mesh's frame is, in the camera's."""
        T = self.best.T_cam_obj
        return (T[:3, :3] @ point + T[:3, 3]).tolist()  # type: ignore[no-any-return]


def pose_numbers(T: Sequence[np.ndarray]) -> list[PoseNumbers]:
    """Positions and quaternions of rigid T [4, 4], all at once: one by one they cost as much as all the messages."""
    if not len(T):
        return []
    stacked = np.array(T, np.float64)  # [N, 4, 4]
    rows = np.concatenate([stacked[:, :3, 3], quaternions_xyzw(stacked[:, :3, :3])], axis=1)
    return [tuple(row) for row in rows.tolist()]


def named_hypotheses(result: FrameResult, coarse: bool = False) -> tuple[list[NamedHypotheses], list[str]]:
    """The objects of a result that have an answer, and why the others are left out.

    Only rigid, finite poses pass: nothing else may ever reach TF.
    """
    offered = [estimate.coarse if coarse else estimate.hypotheses for estimate in result.objects]
    numbers = iter(sound_poses([h.T_cam_obj for hypotheses in offered for h in hypotheses]))
    named: list[NamedHypotheses] = []
    problems: list[str] = []
    for estimate, before in zip(result.objects, offered, strict=True):
        after = [(h, pose) for h, pose in zip(before, islice(numbers, len(before)), strict=True) if pose is not None]
        if after:
            hypotheses, poses = zip(*after, strict=True)
            named.append(NamedHypotheses(estimate.detection.id, hypotheses, poses))
        else:
            why = f"{len(before)} poses, none of them finite and rigid" if before else "no hypotheses"
            problems.append(f"detection {estimate.detection.id!r}: {why}")
    return named, problems


def sound_poses(T: Sequence[np.ndarray]) -> list[PoseNumbers | None]:
    """The numbers of each T that is [4, 4], finite, rigid and of this world, None for the others; all at once."""
    if not T:
        return []
    stacked = np.array([t if t.shape == (4, 4) else NO_POSE for t in T], np.float64)  # [N, 4, 4]
    of_this_world = (np.abs(stacked) < MAX_DISTANCE).all(axis=(1, 2))  # false for NaN as well
    fit = of_this_world & are_rotations(stacked[:, :3, :3], ROTATION_TOLERANCE)
    stacked[~fit] = np.eye(4)
    return [pose if sound else None for pose, sound in zip(pose_numbers(stacked), fit.tolist(), strict=True)]


def set_numbers(position: Point | Vector3, orientation: Quaternion, pose: PoseNumbers) -> None:
    """Write a pose into the parts of a message."""
    position.x, position.y, position.z, orientation.x, orientation.y, orientation.z, orientation.w = pose


def child_frames(objects: Sequence[NamedHypotheses], prefix: str) -> list[str]:
    """What the best mesh of each object is called in TF, each differently."""
    taken: set[str] = set()
    children = []
    for item in objects:
        child = NOT_IN_FRAME_NAMES.sub("_", f"{prefix}{item.best.mesh_id}_{item.name}").lstrip("/")
        while child in taken:
            child += "_"
        taken.add(child)
        children.append(child)
    return children
