"""The ROS 2 node: image + camera_info + 2D detections in, mesh ids + 6-DoF poses out (the README is its contract).

A lifecycle node whose transitions are mirror images: `configure` and `activate` push onto a stack what undoes each of their
steps, `cleanup` and `deactivate` unwind it. Callbacks only sort messages into sets; one worker converts, searches and
publishes the newest set (processing.py).
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from pasr_perception.config import PasrConfig
from pasr_perception.ros import params
from pasr_perception.ros.checks import BadMessage, stamp_to_ns
from pasr_perception.ros.diagnostics import Diagnostics
from pasr_perception.ros.freshness import Freshness
from pasr_perception.ros.inputs import InputEvents, InputSet, SynchronisedInputs
from pasr_perception.ros.interrupts import Interrupts
from pasr_perception.ros.live import LiveParameters
from pasr_perception.ros.loading import open_pipeline, release_memory, reopen_pipeline
from pasr_perception.ros.logs import Complaints, speaking_for
from pasr_perception.ros.monitor import InputMonitor
from pasr_perception.ros.params import NodeConfig
from pasr_perception.ros.processing import FrameProcessor, MakeTracker, PosePipeline
from pasr_perception.ros.publish import ResultPublisher
from pasr_perception.ros.services import Services, Work
from pasr_perception.ros.taking import waiting_messages
from pasr_perception.ros.worker import LatestWorker
from pasr_perception.track import Tracker

NODE_NAME = "pasr_node"
IMAGE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
CAMERA_INFO_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
DETECTIONS_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


class PasrNode(LifecycleNode):
    """`pasr_node`. ConfigError if its parameters are unfit; nothing is loaded before `configure` (or `start`).

    `pipeline`: one that is open already, instead of the one that the parameters describe; `make_tracker` follows its objects.
    """

    def __init__(
        self,
        pipeline: PosePipeline | None = None,
        node_name: str = NODE_NAME,
        make_tracker: MakeTracker = Tracker,
        **node_arguments: Any,
    ) -> None:
        super().__init__(node_name, **node_arguments)
        self._given_pipeline, self._make_tracker = pipeline, make_tracker
        self._config, self._pasr_config = params.declare(self)
        self._complaints = Complaints(self.get_logger(), self._config.complaint_period_s)
        self.diagnostics = Diagnostics(self, self._complaints, self.state)
        self._transition = threading.RLock()  # a reload must not meet a transition
        self._while_configured, self._while_active = ExitStack(), ExitStack()
        self._processor: FrameProcessor | None = None
        self._inputs: SynchronisedInputs | None = None
        self._listening: list[Subscription] = []  # in the order of `SynchronisedInputs.add`
        self._freshness = Freshness(lambda: self.get_clock().now().nanoseconds)
        self._enabled = True
        self._failure: Exception | None = None
        self._live = LiveParameters(self, self.state, self._apply)
        self._services_offered = Services(self, Work(self._reload_library, self._reset_tracks, self._enable))
        self.create_timer(1.0, self._check, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def state(self) -> str:
        """The lifecycle state's name: unconfigured, inactive, active, finalized, or a transition's."""
        return self._state_machine.current_state[1]

    def start(self) -> None:
        """Configure and activate if the parameter `autostart` says so; raises what went wrong."""
        if not self._config.autostart:
            self.get_logger().info("waiting for a lifecycle manager (autostart is false)")
            return
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                raise self._failure or RuntimeError("the node was shut down while it started")

    # --- transitions ---

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load encoder and library, offer the results."""
        return self._build("configure", self._while_configured, self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and listen."""
        return self._build("activate", self._while_active, self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening, finish the frame under way, take the markers away."""
        return self._undo(self._while_active)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free encoder and library."""
        return self._undo(self._while_configured)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate and clean up, as far as there is something."""
        return self._undo(self._while_active, self._while_configured)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Whatever failed half way: back to unconfigured."""
        return self._undo(self._while_active, self._while_configured)

    def destroy_node(self) -> None:
        """Undo everything, then take the node down."""
        self._undo(self._while_active, self._while_configured)
        super().destroy_node()

    def _configure(self, undo: ExitStack) -> None:
        self._config, self._pasr_config = params.read(self, {})
        undo.callback(release_memory)
        pipeline = self._given_pipeline or open_pipeline(self._config.library, self._pasr_config, self.get_logger())
        undo.callback(setattr, self, "_processor", None)
        publisher = ResultPublisher(self, self._config, pipeline.library)
        undo.callback(publisher.destroy)
        self._processor = FrameProcessor(
            self, pipeline, publisher, self.diagnostics, self._complaints, self._make_tracker
        )
        undo.callback(self._processor.destroy)

    def _activate(self, undo: ExitStack) -> None:
        assert self._processor is not None
        undo.callback(self._processor.forget)
        work, survive = partial(self._work, self._processor), self._processor.survive
        worker = LatestWorker(work, survive, "pasr pipeline", self._speaking, self._patience_s)
        undo.callback(self._stop, worker)
        self._listen(worker, undo)
        self.get_logger().info(f"ready: {self._processor.meshes} meshes, waiting for images")

    def _listen(self, worker: LatestWorker, undo: ExitStack) -> None:
        config = self._config
        raw = config.image_transport == "raw"
        topics = [
            (Image, "image", IMAGE_QOS) if raw else (CompressedImage, "image/compressed", IMAGE_QOS),
            (CameraInfo, "camera_info", CAMERA_INFO_QOS),
            (Detection2DArray, "detections", DETECTIONS_QOS),
        ]
        topics += [(Image, "depth", IMAGE_QOS)] if config.use_depth else []
        monitor = InputMonitor([self.resolve_topic_name(name) for _, name, _ in topics], required=3)
        events = InputEvents(partial(self._submit, worker), partial(self._restart, worker), self._reject)
        self._inputs = SynchronisedInputs(monitor, events, config.sync_queue, config.sync_slop_s)
        undo.callback(setattr, self, "_inputs", None)
        self.diagnostics.monitor = monitor
        undo.callback(setattr, self.diagnostics, "monitor", None)
        undo.callback(self._listening.clear)
        for index, (kind, name, qos) in enumerate(topics):
            overrides = QoSOverridingOptions.with_default_policies()
            callback = partial(self._came, self._inputs, index)
            subscription = self.create_subscription(kind, name, callback, qos, qos_overriding_options=overrides)
            self._listening.append(subscription)
            undo.callback(self.destroy_subscription, subscription)

    def _build(self, name: str, stack: ExitStack, steps: Callable[[ExitStack], None]) -> TransitionCallbackReturn:
        """Do `steps`; if one of them fails undo those before, so that the state is what it was."""
        with self._transition, self._speaking():
            try:
                with ExitStack() as undo:
                    steps(undo)
                    stack.push(undo.pop_all())
                return TransitionCallbackReturn.SUCCESS
            except Exception as error:  # whatever it was: said, kept for `start`, and survived
                self._failure = error
                if self.context.ok():
                    self.get_logger().error(f"{name} failed: {type(error).__name__}: {error}")
                return TransitionCallbackReturn.FAILURE

    def _undo(self, *stacks: ExitStack) -> TransitionCallbackReturn:
        with self._transition, self._speaking():
            for stack in stacks:
                try:
                    stack.close()  # all of it, whatever fails
                except Exception:
                    if self.context.ok():  # else its publishers ceased to work while they were still used
                        raise
        return TransitionCallbackReturn.SUCCESS

    def _stop(self, worker: LatestWorker) -> None:
        if not worker.stop():
            self.get_logger().error("the frame under way does not end; going on without it")

    def _speaking(self) -> Any:
        return speaking_for(self.get_logger())

    # --- what the inputs bring ---

    def _came(self, inputs: SynchronisedInputs, index: int, message: Any) -> None:
        """A message came: it is taken with what came on the other inputs meanwhile, depth first, which no set waits for."""
        inputs.add(index, message)
        for other, subscription in reversed(list(enumerate(self._listening))):
            if other != index:
                for partner in waiting_messages(subscription):
                    inputs.add(other, partner)

    def _submit(self, worker: LatestWorker, inputs: InputSet) -> None:
        if not self._enabled:
            self.diagnostics.count("ignored")
            return
        self.diagnostics.count("received")
        self._freshness.came(stamp_to_ns(inputs.image.header))
        if worker.submit(inputs):
            self.diagnostics.count("dropped")

    def _patience_s(self, inputs: InputSet) -> float:
        patience_s = self._freshness.patience_s(stamp_to_ns(inputs.image.header))
        if patience_s > 0:
            self.diagnostics.count("outdated")
        return patience_s

    def _work(self, processor: FrameProcessor, inputs: InputSet) -> None:
        processor.process(inputs, self._freshness.outdated(stamp_to_ns(inputs.image.header)))

    def _restart(self, worker: LatestWorker) -> None:
        worker.clear()
        assert self._processor is not None
        self._processor.forget()
        self._complaints.complain("restart", "stamps jumped back (a bag that starts again?): starting afresh")

    def _reject(self, error: BadMessage) -> None:
        self.diagnostics.count("rejected")
        self._complaints.complain(error.what, str(error))

    def _check(self) -> None:
        self.diagnostics.check(self._config.input_patience_s)

    # --- services and parameters ---

    def _reload_library(self) -> str:
        with self._transition, self._speaking():
            if self._processor is None:
                raise RuntimeError(f"the node is {self.state()}: there is no library to reload")
            pipeline = reopen_pipeline(self._processor.pipeline, self._config.library, self.get_logger())
            version = self._processor.use(pipeline, self._config)
            return f"{self._processor.meshes} meshes, version {version}"

    def _reset_tracks(self) -> str:
        if self._processor is not None:
            self._processor.forget()
        return "forgot all objects"

    def _enable(self, enabled: bool) -> str:
        self._enabled = enabled
        if not enabled and self._processor is not None:
            self._processor.forget()
        return "answering frames" if enabled else "ignoring frames"

    def _apply(self, config: NodeConfig, pasr_config: PasrConfig) -> None:
        """Parameters have changed: those that may while the node runs are taken over."""
        retuned = (config.sync_queue, config.sync_slop_s) != (self._config.sync_queue, self._config.sync_slop_s)
        self._config, self._pasr_config = config, pasr_config
        self._complaints.period_s = config.complaint_period_s
        if self._inputs is not None and retuned:
            self._inputs.retune(config.sync_queue, config.sync_slop_s)
        if self._processor is not None:
            self._processor.reconfigure(config, pasr_config)


def main(args: list[str] | None = None, pipeline: PosePipeline | None = None) -> int:
    """Run the node until it is told to stop. Returns the exit code: 1 if it could not start."""
    interrupts = Interrupts()
    rclpy.init(args=args)
    node: PasrNode | None = None
    try:
        executor = SingleThreadedExecutor()  # made here: one that a signal interrupts in the making ends in a traceback
        node = PasrNode(pipeline)
        node.start()
        gc.collect()
        gc.freeze()  # what was loaded stays: looking through all of it again would hold up frames
        rclpy.spin(node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:  # the edge of the process: whatever it was, say it in one line
        if rclpy.ok() and not interrupts.came:
            get_logger(NODE_NAME).fatal(f"cannot go on: {type(error).__name__}: {error}")
            return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
