"""The node while it follows objects: what is settled and what is not, names, resets, the camera's place from TF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from robot import MESH_ID, Robot, hypothesis, values
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from pasr_perception.config import TrackConfig
from pasr_perception.types import Detection, Frame, TrackedObject, TrackedResult, TrackState, TrackTimings

pytestmark = pytest.mark.ros

STATES = {"left": TrackState.TENTATIVE, "middle": TrackState.TRACKED, "gone": TrackState.LOST}


def track(number: int, state: TrackState, **changes: Any) -> TrackedObject:
    given = {
        "track_id": number,
        "state": state,
        "reason": f"because of {number}",
        "hypotheses": (hypothesis(),),
        "unknown": 0.0,
        "ambiguous": False,
        "detection": None,
        "measured": True,
        "velocity": np.zeros(6),
        "first_ns": 0,
        "seen_ns": 0,
        "box": np.array([10.0, 10.0, 20.0, 20.0]),
    }
    return TrackedObject(**{**given, **changes})


class FixedTracker:
    """Tells of the same tracks in every frame, and remembers what it was asked."""

    def __init__(self, pipeline: Any, tracks: Sequence[TrackedObject] = (), **told: Any) -> None:
        self.pipeline, self.tracks, self.told = pipeline, tuple(tracks), told
        self.asked: list[tuple[list[Detection], np.ndarray | None]] = []
        self.resets = 0
        self.configs: list[TrackConfig] = []

    def step(self, frame: Frame, detections: Sequence[Detection], T_fixed_cam: np.ndarray | None) -> TrackedResult:
        self.asked.append((list(detections), T_fixed_cam))
        told = {"ended": (), "deferred": (), "rejected": (), "notes": (), **self.told}
        return TrackedResult(frame.stamp_ns, self.tracks, timings=TrackTimings(0.001, 0.02, 0.03, 0.06, 2, 1), **told)

    def reset(self) -> None:
        self.resets += 1

    def reconfigure(self, config: TrackConfig) -> None:
        self.configs.append(config)


@pytest.fixture
def follow(start: Callable[..., Robot]) -> Callable[..., tuple[Robot, list[FixedTracker]]]:
    """Starts a node that follows these tracks; the trackers that it makes are listed."""

    def begin(
        tracks: Sequence[TrackedObject] = (), parameters: dict[str, Any] | None = None, **told: Any
    ) -> tuple[Robot, list[FixedTracker]]:
        trackers: list[FixedTracker] = []

        def make(pipeline: Any) -> FixedTracker:
            trackers.append(FixedTracker(pipeline, tracks, **told))
            return trackers[-1]

        robot = start(node={"make_tracker": make}, tracking=True, **(parameters or {}))
        robot.listen("tentative", Detection3DArray, "/pasr_node/tentative_objects")
        robot.wait_until_connected()
        return robot, trackers

    return begin


def test_only_what_is_settled_reaches_objects_tf_and_markers(follow: Callable[..., Any]) -> None:
    tracks = [track(i, state) for i, state in enumerate(TrackState, start=1)]
    unknown = track(9, TrackState.TENTATIVE, hypotheses=(), unknown=0.9)
    robot, _ = follow([*tracks, unknown])
    robot.show(5, boxes=2)
    robot.wait(lambda: all(robot.got[k] for k in ("objects", "tf", "markers", "tentative")))
    robot.wait(lambda: bool(robot.statuses("tracks")))
    assert [d.id for d in robot.got["objects"][0].detections] == ["track_2", "track_3"]
    assert [d.id for d in robot.got["tentative"][0].detections] == ["track_1"]
    assert [t.child_frame_id for t in robot.got["tf"][0].transforms] == [f"{MESH_ID}_track_2", f"{MESH_ID}_track_3"]
    labels = [m.text for m in robot.got["markers"][0].markers if m.text]
    assert len(labels) == 2
    status = robot.statuses("tracks")[0]
    assert (status.level, status.message) == (DiagnosticStatus.OK, "5 objects are followed")
    assert values(status) == {
        "track_1": "tentative: because of 1",
        "track_2": "tracked: because of 2",
        "track_3": "coasting: because of 3",
        "track_4": "lost: because of 4",
        "track_9": "tentative: because of 9",
    }
    said = values(robot.statuses("pipeline")[0])
    assert float(said["latency_ms/search"]) == pytest.approx(30)
    assert float(said["latency_ms/total"]) == pytest.approx(60)
    assert (said["count/warm"], said["count/search"]) == ("2", "1")


def test_the_detectors_ids_win_and_objects_without_one_stay_nameless_for_the_tracker(
    follow: Callable[..., Any],
) -> None:
    tracks = [track(1, TrackState.TRACKED, name="bay 3"), track(2, TrackState.TRACKED)]
    tracks += [track(3, TrackState.TRACKED, name="bay 3")]  # what must not happen twice in a message
    robot, trackers = follow(tracks)
    robot.show(5, boxes=2, ids=("bay 3", ""))
    robot.wait(lambda: robot.answered(1))
    assert [d.id for d in trackers[0].asked[0][0]] == ["bay 3", ""]
    assert [d.id for d in robot.got["objects"][0].detections] == ["bay 3", "track_2", "track_3"]


def test_a_reset_a_jump_back_and_a_reload_begin_anew(follow: Callable[..., Any]) -> None:
    robot, trackers = follow([track(1, TrackState.TRACKED)])
    robot.show(5)
    robot.wait(lambda: robot.answered(1))
    before = trackers[-1].resets
    assert robot.call(Trigger, "reset_tracks").success
    robot.show(6)
    robot.wait(lambda: robot.answered(2))
    assert trackers[-1].resets == before + 1
    robot.show(1)
    robot.wait(lambda: trackers[-1].resets == before + 2)
    made = len(trackers)
    robot.node._processor.use(trackers[-1].pipeline, robot.node._config)
    assert len(trackers) == made + 1


def test_settings_of_tracking_change_while_it_runs(follow: Callable[..., Any]) -> None:
    from rclpy.parameter import Parameter

    robot, trackers = follow()
    results = robot.node.set_parameters([Parameter("track.coast_s", value=2.5)])
    assert [r.successful for r in results] == [True]
    robot.show(5)
    robot.wait(lambda: robot.answered(1))
    assert [c.coast_s for c in trackers[-1].configs] == [2.5]
    refused = robot.node.set_parameters([Parameter("track.coast_s", value=-1.0)])[0]
    assert not refused.successful
    assert "track.coast_s" in refused.reason


def test_what_ended_and_what_waits_is_said(follow: Callable[..., Any]) -> None:
    waiting = (Detection(np.array([0.0, 0, 5, 5])),)
    robot, _ = follow(ended=((7, "not detected for 31.0 s"),), deferred=waiting, notes=("stamps jumped back",))
    robot.show(5, boxes=3)
    robot.wait(lambda: bool(robot.statuses("tracks")))
    assert values(robot.statuses("tracks")[0]) == {"track_7 (ended)": "not detected for 31.0 s"}
    status = robot.statuses("pipeline")[0]
    assert status.level == DiagnosticStatus.WARN
    assert "stamps jumped back; the time budget did not reach 1 of 3 detections" in status.message


def test_the_cameras_place_comes_from_tf_and_stands_in_for_a_while(
    follow: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    robot, trackers = follow(parameters={"fixed_frame": "map"})
    transforms = robot.helper.create_publisher(TFMessage, "/tf", 10)
    robot.wait(lambda: transforms.get_subscription_count() >= 2)  # the node's, and the robot's ears
    robot.show(4)
    robot.wait(lambda: robot.answered(1))
    assert trackers[0].asked[0][1] is None
    robot.wait(lambda: bool(robot.statuses("pipeline")))
    assert "the camera's place is not known" in robot.statuses("pipeline")[0].message
    message = TransformStamped(child_frame_id="camera")
    message.header.frame_id, message.header.stamp = "map", Time(sec=5)
    message.transform.translation.x, message.transform.rotation.w = 1.5, 1.0
    transforms.publish(TFMessage(transforms=[message]))
    robot.wait(lambda: any(t.child_frame_id == "camera" for m in robot.got["tf"] for t in m.transforms))
    for second, answers in ((5, 2), (6, 3), (9, 4)):
        robot.show(second)
        robot.wait(lambda n=answers: robot.answered(n))
    places = [T for _, T in trackers[0].asked[1:]]
    assert [None if T is None else T[0, 3] for T in places] == [1.5, 1.5, None]
    assert "the camera's place of 1.00 s before is used" in capfd.readouterr().err


def test_a_frame_that_fails_leaves_the_tracks_and_the_node_alive(follow: Callable[..., Any]) -> None:
    robot, trackers = follow([track(1, TrackState.TRACKED)])
    step = trackers[-1].step
    trackers[-1].step = lambda *_: (_ for _ in ()).throw(RuntimeError("no luck"))  # type: ignore[method-assign]
    robot.show(5)
    robot.wait(lambda: any(s.message == "RuntimeError: no luck" for s in robot.statuses("pipeline")))
    trackers[-1].step = step  # type: ignore[method-assign]
    robot.show(6)
    robot.wait(lambda: robot.answered(1))
    assert [d.id for d in robot.got["objects"][0].detections] == ["track_1"]
