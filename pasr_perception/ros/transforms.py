"""Transforms between frames over time, as /tf and /tf_static tell them: kept for a while, chained and interpolated.

Pure Python, for where tf2_ros is not installed (compat.py). A frame has one parent; a later message may change it.
"""

from __future__ import annotations

import bisect
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from pasr_perception.geometry.se3 import invert_T, make_T, rotation_from_quaternion_xyzw

KEPT_NS = 10 * 10**9  # of the past, as tf2 does


class TransformException(Exception):  # noqa: N818 (tf2_ros' name)
    """A transform that is not known, in words."""


def matrix_from_transform(message: Any) -> np.ndarray:
    """T [4, 4] of a geometry_msgs/TransformStamped. Raises ValueError for what is no rigid transform."""
    t, q = message.transform.translation, message.transform.rotation
    translation = np.array([t.x, t.y, t.z])
    if not np.isfinite(translation).all():
        raise ValueError(f"translation: expected finite numbers, got {translation.tolist()}")
    return make_T(rotation_from_quaternion_xyzw(np.array([q.x, q.y, q.z, q.w])), translation)


@dataclass
class _Link:
    """Where a frame was in its parent: one pose for all times, or poses at stamps."""

    parent: str
    fixed: np.ndarray | None = None  # [4, 4]
    stamps: list[int] = field(default_factory=list)  # ascending, nanoseconds
    poses: list[np.ndarray] = field(default_factory=list)

    def add(self, stamp_ns: int, T: np.ndarray) -> None:
        if self.stamps and stamp_ns < self.stamps[-1] - KEPT_NS:  # a bag that begins again
            self.stamps.clear()
            self.poses.clear()
        at = bisect.bisect_left(self.stamps, stamp_ns)
        if at < len(self.stamps) and self.stamps[at] == stamp_ns:
            self.poses[at] = T
            return
        self.stamps.insert(at, stamp_ns)
        self.poses.insert(at, T)
        old = bisect.bisect_left(self.stamps, self.stamps[-1] - KEPT_NS)
        del self.stamps[:old], self.poses[:old]

    def at(self, stamp_ns: int, child: str) -> np.ndarray:
        if self.fixed is not None:
            return self.fixed
        after = bisect.bisect_left(self.stamps, stamp_ns)
        if after < len(self.stamps) and self.stamps[after] == stamp_ns:
            return self.poses[after]
        if after in (0, len(self.stamps)):
            end, known = ("begin", self.stamps[0]) if after == 0 else ("end", self.stamps[-1])
            gap = abs(known - stamp_ns) * 1e-9
            raise TransformException(
                f"transforms from {self.parent!r} to {child!r} {end} {gap:.3f} s from the stamp asked for"
            )
        return _between(self.poses[after - 1 : after + 1], self.stamps[after - 1 : after + 1], stamp_ns)


def _between(poses: list[np.ndarray], stamps: list[int], stamp_ns: int) -> np.ndarray:
    share = (stamp_ns - stamps[0]) / (stamps[1] - stamps[0])
    rotation = Slerp([0, 1], Rotation.from_matrix([T[:3, :3] for T in poses]))(share).as_matrix()
    return make_T(rotation, (1 - share) * poses[0][:3, 3] + share * poses[1][:3, 3])


class TransformHistory:
    """All links that were heard of. May be written and asked by different threads."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}
        self._lock = threading.Lock()

    def add(self, parent: str, child: str, stamp_ns: int, T: np.ndarray, static: bool) -> None:
        """Take in that `child` was at T [4, 4] in `parent`; for all times if `static`."""
        with self._lock:
            link = self._links.get(child)
            if link is None or link.parent != parent or (link.fixed is not None) != static:
                link = self._links[child] = _Link(parent)
            if static:
                link.fixed = T
            else:
                link.add(stamp_ns, T)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """T_target_source [4, 4] at a stamp. Raises TransformException saying what is missing."""
        with self._lock:
            above_target, above_source = self._ancestors(target), self._ancestors(source)
            common = next((frame for frame in above_source if frame in above_target), None)
            if common is None:
                known = ", ".join(sorted(self._links)) or "none"
                raise TransformException(
                    f"no chain of transforms joins {target!r} and {source!r}; child frames heard of: {known}"
                )
            up = self._to(common, source, stamp_ns)
            return invert_T(self._to(common, target, stamp_ns)) @ up

    def _ancestors(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._links and self._links[chain[-1]].parent not in chain:  # a loop ends where it began
            chain.append(self._links[chain[-1]].parent)
        return chain

    def _to(self, ancestor: str, frame: str, stamp_ns: int) -> np.ndarray:
        T = np.eye(4)
        while frame != ancestor:
            link = self._links[frame]
            T = link.at(stamp_ns, frame) @ T
            frame = link.parent
        return T
