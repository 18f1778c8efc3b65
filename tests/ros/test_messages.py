"""What is published: only rigid finite poses, unit quaternions, unique frames."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")

from hypotheses import hypothesis, named, pose
from scipy.spatial.transform import Rotation

from pasr_perception.ros.messages import NamedHypotheses, child_frames, named_hypotheses
from pasr_perception.types import Detection, FrameResult, Hypothesis, ObjectEstimate, StageTimings

pytestmark = pytest.mark.ros


def frame_result(*estimates: tuple[str, tuple[Hypothesis, ...]]) -> FrameResult:
    box = np.array([0.0, 0.0, 10.0, 10.0])
    return FrameResult(tuple(ObjectEstimate(Detection(box, id=name), h) for name, h in estimates), StageTimings())


def test_a_pose_is_the_same_rigid_motion_with_a_unit_quaternion() -> None:
    generator = np.random.default_rng(3)
    for rotations in (Rotation.random(20, random_state=generator), Rotation.from_rotvec(np.pi * np.eye(3))):
        T = [pose(r).astype(np.float32).astype(np.float64) for r in rotations]  # as they come from the search
        for matrix, numbers in zip(T, NamedHypotheses("a", tuple(hypothesis(T=m) for m in T)).poses, strict=True):
            position, q = numbers[:3], np.array(numbers[3:])
            assert np.linalg.norm(q) == pytest.approx(1.0, abs=1e-12)
            assert q[3] >= 0
            np.testing.assert_allclose(Rotation.from_quat(q).as_matrix(), matrix[:3, :3], atol=1e-6)
            assert position == tuple(matrix[:3, 3])


@pytest.mark.parametrize("fault", ["nan", "inf", "scaled", "mirrored", "shape"])
def test_no_pose_that_is_not_rigid_and_finite_gets_out(fault: str) -> None:
    T = pose()
    if fault == "nan":
        T[0, 3] = np.nan
    elif fault == "inf":
        T[0, 0] = np.inf
    elif fault == "scaled":
        T[:3, :3] *= 1.01
    elif fault == "mirrored":
        T[0, 0] = -1
    else:
        T = T[:3]
    result = frame_result(("whole", (hypothesis(T=T), hypothesis("box"))), ("none", (hypothesis(T=T),)), ("empty", ()))
    objects, problems = named_hypotheses(result)
    assert [(o.name, [h.mesh_id for h in o.hypotheses]) for o in objects] == [("whole", ["box"])]
    assert problems == ["detection 'none': 1 poses, none of them finite and rigid", "detection 'empty': no hypotheses"]


def test_child_frames_are_unique_and_well_formed() -> None:
    objects = named(("7", "mug"), ("a b/c", "mug"), ("a_b/c", "mug"), ("ä", "box"))
    children = child_frames(objects, prefix="/robot/")
    assert children[0] == "robot/mug_7"
    assert len(set(children)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9._-][A-Za-z0-9._/-]*", c) for c in children)
