"""Hypotheses of named objects for tests of what is made of them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from pasr_perception.ros.messages import NamedHypotheses
from pasr_perception.types import Hypothesis


def pose(rotation: Rotation | None = None, t: tuple[float, float, float] = (0.1, 0.2, 1.5)) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.identity().as_matrix() if rotation is None else rotation.as_matrix()
    T[:3, 3] = t
    return T


def hypothesis(mesh_id: str = "mug", score: float = 0.8, T: np.ndarray | None = None) -> Hypothesis:
    return Hypothesis(mesh_id, "cup", score, 0.9, pose() if T is None else T)


def named(*items: tuple[str, str]) -> list[NamedHypotheses]:
    return [NamedHypotheses(name, (hypothesis(mesh_id),)) for name, mesh_id in items]


def header(stamp_s: int = 3) -> Header:
    message = Header(frame_id="camera")
    message.stamp.sec = stamp_s
    return message
