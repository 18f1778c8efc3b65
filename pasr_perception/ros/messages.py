"""ROS messages out: which hypotheses may leave, under which names, and their transforms. Pure functions.

books.py makes objects and markers of them, publish.py sends all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from geometry_msgs.msg import Point, Quaternion, TransformStamped, Vector3
from std_msgs.msg import Header

from pasr_perception.geometry.se3 import are_rotations, quaternions_xyzw
from pasr_perception.types import FrameResult, Hypothesis

ROTATION_TOLERANCE = 1e-4  # what float32 leaves of a rotation, with room
MAX_DISTANCE = 1e6  # metres
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
    if not T:
        return []
    stacked = np.stack(T).astype(np.float64)  # [N, 4, 4]
    rows = np.concatenate([stacked[:, :3, 3], quaternions_xyzw(stacked[:, :3, :3])], axis=1)
    return [tuple(row) for row in rows.tolist()]


def named_hypotheses(result: FrameResult, coarse: bool = False) -> tuple[list[NamedHypotheses], list[str]]:
    """The objects of a result that have an answer, and why the others are left out.

    Only rigid, finite poses pass: nothing else may ever reach TF.
    """
    offered = [estimate.coarse if coarse else estimate.hypotheses for estimate in result.objects]
    fit = iter(are_poses([h.T_cam_obj for hypotheses in offered for h in hypotheses]))
    usable = [tuple(h for h in hypotheses if next(fit)) for hypotheses in offered]
    poses = iter(pose_numbers([h.T_cam_obj for hypotheses in usable for h in hypotheses]))
    named: list[NamedHypotheses] = []
    problems: list[str] = []
    for estimate, before, after in zip(result.objects, offered, usable, strict=True):
        if after:
            named.append(NamedHypotheses(estimate.detection.id, after, tuple(islice(poses, len(after)))))
        else:
            why = f"{len(before)} poses, none of them finite and rigid" if before else "no hypotheses"
            problems.append(f"detection {estimate.detection.id!r}: {why}")
    return named, problems


def are_poses(T: Sequence[np.ndarray]) -> list[bool]:
    """Whether each T is [4, 4], finite, rigid and of this world; all at once, since there are many in a frame."""
    fit = np.array([t.shape == (4, 4) for t in T], bool)
    if fit.any():
        stacked = np.stack([t for t, shaped in zip(T, fit, strict=True) if shaped]).astype(np.float64)
        of_this_world = (np.abs(stacked) < MAX_DISTANCE).all(axis=(1, 2))  # false for NaN as well
        fit[fit] = of_this_world & are_rotations(stacked[:, :3, :3], ROTATION_TOLERANCE)
    return fit.tolist()  # type: ignore[no-any-return]


def set_numbers(position: Point | Vector3, orientation: Quaternion, pose: PoseNumbers) -> None:
    """Write a pose into the parts of a message."""
    position.x, position.y, position.z, orientation.x, orientation.y, orientation.z, orientation.w = pose


def transforms_to_msgs(header: Header, objects: Sequence[NamedHypotheses], prefix: str) -> list[TransformStamped]:
    """The best pose of each object as a transform from the camera; child frames are unique in the list."""
    transforms: list[TransformStamped] = []
    taken: set[str] = set()
    for item in objects:
        child = NOT_IN_FRAME_NAMES.sub("_", f"{prefix}{item.best.mesh_id}_{item.name}").lstrip("/")
        while child in taken:
            child += "_"
        taken.add(child)
        transform = TransformStamped(header=header, child_frame_id=child)
        set_numbers(transform.transform.translation, transform.transform.rotation, item.poses[0])
        transforms.append(transform)
    return transforms
