"""Transitions that undo each other, services, parameters that change while the node runs, several nodes side by side."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")
pytest.importorskip("lifecycle_msgs.msg")

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.parameter import Parameter
from robot import WAIT_S, FixedPipeline, Robot, known_answer
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import Marker

from pasr_perception.library.store import LibraryError
from pasr_perception.ros import node as node_module
from pasr_perception.types import Detection, Frame, FrameResult

pytestmark = pytest.mark.ros


def change(robot: Robot, transition: int) -> bool:
    return robot.call(ChangeState, "change_state", transition=Transition(id=transition)).success


def workers() -> int:
    return sum(thread.name == "pasr pipeline" for thread in threading.enumerate())


def listened_to(robot: Robot) -> list[int]:
    return [p.get_subscription_count() for p in (robot.images, robot.infos, robot.detections)]


def test_a_manager_takes_the_node_up_and_down_again_and_nothing_is_left(start: Callable[..., Robot]) -> None:
    robot = start(autostart=False)
    assert robot.node.state() == "unconfigured"
    robot.wait_for(0, lambda: robot.node.count_publishers("/pasr_node/objects"))
    for _ in range(2):
        robot.got["info"].clear()
        assert change(robot, Transition.TRANSITION_CONFIGURE)
        robot.wait(lambda: bool(robot.got["info"]))
        robot.wait_for([0, 0, 0], lambda: listened_to(robot))
        robot.wait_for(0, workers)
        assert change(robot, Transition.TRANSITION_ACTIVATE)
        robot.wait_until_connected()
        robot.wait_for(1, workers)
        robot.got["objects"].clear()
        robot.show(5)
        robot.wait(lambda: robot.answered(1))
        robot.got["markers"].clear()
        assert change(robot, Transition.TRANSITION_DEACTIVATE)
        # the frame's own markers may come after its objects, and so after what was cleared
        robot.wait_for([Marker.DELETEALL], lambda: [m.action for a in robot.got["markers"][-1:] for m in a.markers])
        robot.wait_for([0, 0, 0], lambda: listened_to(robot))
        robot.wait_for(0, workers)
        assert change(robot, Transition.TRANSITION_CLEANUP)
        robot.wait(lambda: robot.helper.count_publishers("/pasr_node/objects") == 0)
    assert change(robot, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert robot.node.state() == "finalized"


def test_the_state_is_in_the_diagnostics(start: Callable[..., Robot]) -> None:
    robot = start(autostart=False)
    robot.wait(lambda: any(s.message == "not listening: unconfigured" for s in robot.statuses("input")))
    robot.node.trigger_configure()
    robot.wait(lambda: any(s.message == "not listening: inactive" for s in robot.statuses("input")))
    robot.node.trigger_activate()
    robot.wait(lambda: any(s.message == "no input yet" for s in robot.statuses("input")))


def test_cleanup_lets_go_of_the_pipeline(start: Callable[..., Robot], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[FixedPipeline]] = []

    def open_pipeline(library: str, *_: Any) -> FixedPipeline:
        pipeline = FixedPipeline()
        opened.append(weakref.ref(pipeline))
        return pipeline

    robot = start(autostart=False)
    robot.node._given_pipeline = None
    monkeypatch.setattr(node_module, "open_pipeline", open_pipeline)
    robot.node.trigger_configure()
    assert opened[0]() is not None
    robot.node.trigger_cleanup()
    gc.collect()
    assert opened[0]() is None


def test_a_node_that_cannot_be_configured_says_why_and_can_be_told_better(
    start: Callable[..., Robot], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    robot = start(autostart=False, library="/nowhere")
    robot.node._given_pipeline = None
    assert not change(robot, Transition.TRANSITION_CONFIGURE)
    assert robot.node.state() == "unconfigured"
    assert "configure failed: LibraryError: /nowhere" in "".join(capfd.readouterr())
    monkeypatch.setattr(node_module, "open_pipeline", lambda *_: FixedPipeline())
    assert robot.node.set_parameters([Parameter("library", value="/somewhere")])[0].successful
    assert change(robot, Transition.TRANSITION_CONFIGURE)


def test_shutdown_of_an_active_node_undoes_everything(start: Callable[..., Robot]) -> None:
    robot = start()
    robot.show(5)
    robot.wait(lambda: robot.answered(1))
    assert change(robot, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    robot.wait(lambda: listened_to(robot) == [0, 0, 0])
    assert (robot.node.state(), workers()) == ("finalized", 0)


def test_a_node_is_taken_down_to_the_end_though_ros_is_shut_down_meanwhile(
    start: Callable[..., Robot], ros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = start()
    robot.show(5)
    robot.wait(lambda: robot.answered(1))

    def publish(_: Any) -> None:  # the signal's thread is quicker
        rclpy.shutdown(context=ros)
        raise RuntimeError("publisher's context is invalid")

    monkeypatch.setattr(robot.node._processor._publisher, "_marker_publisher", SimpleNamespace(publish=publish))
    robot.node.destroy_node()
    assert (robot.node._processor, workers()) == (None, 0)


class Reloadable(FixedPipeline):
    """A pipeline whose library can be opened again, or not."""

    def reopened(self, library_dir: Any) -> FixedPipeline:
        if "broken" in str(library_dir):
            raise LibraryError(f"{library_dir}: expected 10 bytes, got 3: cut short or replaced")
        return Reloadable(self.answer)


def test_reloading_takes_up_the_library_and_counts_its_versions(start: Callable[..., Robot]) -> None:
    robot = start(Reloadable())
    answer = robot.call(Trigger, "reload_library")
    assert (answer.success, answer.message) == (True, "1 meshes, version 2")
    robot.wait(lambda: robot.got["info"][-1].database_version == 2)
    robot.node.set_parameters([Parameter("library", value="/elsewhere")])
    assert robot.call(Trigger, "reload_library").success
    robot.wait(lambda: robot.got["info"][-1].database_location == "/elsewhere")
    robot.show(5)
    robot.wait(lambda: robot.answered(1))


def test_frames_are_answered_while_the_library_loads(start: Callable[..., Robot]) -> None:
    go = threading.Event()

    class Slow(Reloadable):
        def reopened(self, library_dir: Any) -> FixedPipeline:
            assert go.wait(WAIT_S)
            return super().reopened(library_dir)

    robot = start(Slow())
    client = robot.helper.create_client(Trigger, "/pasr_node/reload_library")
    robot.wait(client.service_is_ready)
    future = client.call_async(Trigger.Request())
    for second in (5, 6, 7):
        robot.show(second)
        robot.wait(lambda n=second - 4: robot.answered(n))
    assert not future.done()
    go.set()
    robot.wait(future.done)
    assert future.result().message == "1 meshes, version 2"


def test_a_reload_that_fails_says_why_and_the_old_library_serves_on(start: Callable[..., Robot]) -> None:
    robot = start(Reloadable())
    robot.node.set_parameters([Parameter("library", value="/broken")])
    answer = robot.call(Trigger, "reload_library")
    assert not answer.success
    assert answer.message == "LibraryError: /broken: expected 10 bytes, got 3: cut short or replaced"
    robot.show(5)
    robot.wait(lambda: robot.answered(1))


def test_reloading_an_unconfigured_node_is_refused(start: Callable[..., Robot]) -> None:
    robot = start(autostart=False)
    answer = robot.call(Trigger, "reload_library")
    assert (answer.success, "the node is unconfigured" in answer.message) == (False, True)


def test_a_disabled_node_ignores_and_counts_frames_until_enabled(start: Callable[..., Robot]) -> None:
    robot = start()
    robot.show(5)
    robot.wait(lambda: robot.answered(1) and len(robot.got["markers"]) == 1)
    assert robot.call(SetBool, "enable", data=False).message == "ignoring frames"
    robot.wait(lambda: robot.got["markers"][-1].markers[0].action == Marker.DELETEALL)
    robot.show(6)
    robot.wait(lambda: robot.node.diagnostics.counts["frames/ignored"] == 1)
    assert robot.call(SetBool, "enable", data=True).success
    robot.show(7)
    robot.wait(lambda: robot.answered(2))
    assert [o.header.stamp.sec for o in robot.got["objects"]] == [5, 7]


def test_resetting_takes_the_markers_away_and_objects_are_new(start: Callable[..., Robot]) -> None:
    robot = start()
    robot.show(5, ids=("cup",))
    robot.wait(lambda: len(robot.got["markers"]) == 1)
    assert robot.call(Trigger, "reset_tracks").success
    robot.show(6, ids=("cup",))
    robot.wait(lambda: len(robot.got["markers"]) == 3)
    assert robot.got["markers"][1].markers[0].action == Marker.DELETEALL
    first, _, second = ([m.id for m in a.markers if m.ns == "meshes"] for a in robot.got["markers"])
    assert set(first).isdisjoint(second)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("refine.top_k", 0, "Parameter refine.top_k out of range. Min: 1"),
        ("sync_slop_s", -1.0, "Parameter sync_slop_s out of range Min: 0.0, Max: 10.0"),
        ("tf_prefix", 7, "tf_prefix: expected str, got 7"),
        ("image_transport", "compressed", "image_transport: expected the node to be unconfigured, got active; first"),
        ("coarse.top_k", 20, "coarse.top_k: expected the node to be unconfigured, got active; first `ros2 lifecycle"),
    ],
)
def test_an_unfit_change_of_a_parameter_is_refused_with_the_reason(
    start: Callable[..., Robot], name: str, value: Any, reason: str
) -> None:
    robot = start()
    before = robot.node.get_parameter(name).value
    result = robot.node.set_parameters([Parameter(name, value=value)])[0]
    assert not result.successful
    assert result.reason.startswith(reason)
    assert robot.node.get_parameter(name).value == before


def test_changes_are_made_together_or_not_at_all(start: Callable[..., Robot]) -> None:
    pipeline = FixedPipeline()
    before = pipeline.config.refine
    robot = start(pipeline)
    changes = [Parameter("refine.top_k", value=2), Parameter("refine.iterations", value=-1)]
    assert not robot.node.set_parameters_atomically(changes).successful
    assert pipeline.config.refine == before
    changes = [Parameter("refine.top_k", value=2), Parameter("refine.iterations", value=1)]
    assert robot.node.set_parameters_atomically(changes).successful
    assert (pipeline.config.refine.top_k, pipeline.config.refine.iterations) == (2, 1)


def test_live_changes_reach_what_uses_them(start: Callable[..., Robot]) -> None:
    robot = start()
    robot.node.set_parameters([Parameter("tf_prefix", value="arm/"), Parameter("marker_lifetime_s", value=2)])
    robot.show(5)
    robot.wait(lambda: bool(robot.got["tf"]) and bool(robot.got["markers"]))
    assert robot.got["tf"][0].transforms[0].child_frame_id == "arm/mug_0"
    assert {m.lifetime.sec for m in robot.got["markers"][0].markers if m.action == Marker.ADD} == {2}


def test_what_needs_configuring_may_change_while_unconfigured(start: Callable[..., Robot]) -> None:
    robot = start(autostart=False)
    assert robot.node.set_parameters([Parameter("image_transport", value="compressed")])[0].successful
    robot.node.trigger_configure()
    robot.node.trigger_activate()
    robot.wait(lambda: robot.helper.count_subscribers("/image/compressed") == 1)


def test_quality_of_service_can_be_overridden(start: Callable[..., Robot]) -> None:
    override = "qos_overrides./image.subscription.reliability"
    robot = start(**{override: "reliable"})

    def asked() -> list[str]:
        return [i.qos_profile.reliability.name for i in robot.helper.get_subscriptions_info_by_topic("/image")]

    robot.wait_for(["RELIABLE"], asked)


def test_two_nodes_in_one_process_answer_their_own_cameras(start: Callable[..., Robot]) -> None:
    def failing(frame: Frame, detections: list[Detection]) -> FrameResult:
        if frame.stamp_ns == 6_000_000_000:
            raise RuntimeError("only the right one")
        return known_answer(frame, detections)

    left = start(node={"namespace": "/left"}, tf_prefix="left/")
    right = start(FixedPipeline(failing), node={"namespace": "/right", "node_name": "eyes"}, tf_prefix="right/")
    left.show(5)
    left.wait(lambda: left.answered(1) and bool(left.statuses("pipeline")))
    right.show(6)
    right.wait(lambda: bool(right.statuses("pipeline")))
    right.show(7)
    right.wait(lambda: right.answered(1))
    assert [o.header.stamp.sec for o in left.got["objects"]] == [5]
    assert [o.header.stamp.sec for o in right.got["objects"]] == [7]
    assert left.statuses("pipeline")[0].name == "left/pasr_node: pipeline"
    assert right.statuses("pipeline")[0].message == "RuntimeError: only the right one"
    left.wait(lambda: bool(left.got["tf"]))
    right.wait(lambda: any("right" in m.transforms[0].child_frame_id for m in right.got["tf"]))
    children = {t.child_frame_id for robot in (left, right) for m in robot.got["tf"] for t in m.transforms}
    assert children == {"left/mug_0", "right/mug_0"}


def test_simulated_time_gives_latencies_in_the_time_of_the_clock(start: Callable[..., Robot]) -> None:
    robot = start(use_sim_time=True)
    clock = robot.helper.create_publisher(Clock, "/clock", 1)
    message = Clock()
    message.clock.sec, message.clock.nanosec = 5, 250_000_000

    def told() -> bool:
        clock.publish(message)
        return robot.node.get_clock().now().nanoseconds == 5_250_000_000

    robot.wait(told)
    robot.show(5)
    robot.wait(lambda: bool(robot.statuses("pipeline")))
    said = {v.key: v.value for v in robot.statuses("pipeline")[0].values}
    assert said["latency_ms/stamp_to_publish"] == "250.000"
