"""The ROS 2 node: image + camera_info + 2D detections in, mesh ids + 6-DoF poses out (DESIGN 6 is its contract).

Callbacks only sort messages into sets; one worker thread converts, searches and publishes the newest set.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from pasr_perception.config import ConfigError, PasrConfig
from pasr_perception.ros import params
from pasr_perception.ros.convert import BadMessage, detections_from_msg, frame_from_msgs, stamp_to_ns
from pasr_perception.ros.diagnostics import Diagnostics, FrameReport
from pasr_perception.ros.inputs import CAMERA_INFO, DETECTIONS, IMAGE, InputSet, SynchronisedInputs
from pasr_perception.ros.logs import Complaints, RosLogHandler
from pasr_perception.ros.publish import Library, ResultPublisher
from pasr_perception.ros.sync import InputMonitor
from pasr_perception.ros.worker import LatestWorker
from pasr_perception.types import Detection, Frame, FrameResult

NODE_NAME = "pasr_node"
IMAGE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
CAMERA_INFO_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
DETECTIONS_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


class PosePipeline(Protocol):
    """What the node asks of `pasr_perception.Pipeline`."""

    @property
    def library(self) -> Library: ...

    def detect(self, frame: Frame, detections: Sequence[Detection]) -> FrameResult: ...


class PasrNode(Node):
    """`pasr_node`. Loading the encoder and the library happens here; ConfigError, OSError or ValueError if it cannot.

    `pipeline`: one that is open already, instead of the one that the parameters describe.
    """

    def __init__(self, pipeline: PosePipeline | None = None, **node_arguments: Any) -> None:
        super().__init__(NODE_NAME, **node_arguments)
        self._config, pasr_config = params.declare(self)
        self._log_handler = RosLogHandler(self.get_logger())
        package_logger = logging.getLogger("pasr_perception")
        package_logger.setLevel(logging.INFO)
        package_logger.addHandler(self._log_handler)
        self._pipeline = pipeline or self._open_pipeline(pasr_config)
        self._complaints = Complaints(self.get_logger(), self._config.complaint_period_s)
        image_topic = "image" if self._config.image_transport == "raw" else "image/compressed"
        monitor = InputMonitor([self.resolve_topic_name(t) for t in (image_topic, "camera_info", "detections")])
        self.diagnostics = Diagnostics(self, self._complaints, monitor, self._config.input_patience_s)
        self._publisher = ResultPublisher(self, self._config, self._pipeline.library)
        self._publisher.publish_library(version=1)
        self._worker = LatestWorker(self._process, self._survive, name="pasr pipeline")
        self._inputs = SynchronisedInputs(
            monitor, self._submit, self._restart, self._config.sync_queue, self._config.sync_slop_s
        )
        self._subscribe(image_topic)
        self.create_timer(1.0, self.diagnostics.check_inputs, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"ready: {len(self._pipeline.library.entries)} meshes, waiting for images")

    def destroy_node(self) -> None:
        """Finish the frame under way, then take the node down."""
        worker = getattr(self, "_worker", None)
        if worker is not None and not worker.stop():
            self.get_logger().error("the frame under way does not end; leaving without it")
        if hasattr(self, "_log_handler"):
            logging.getLogger("pasr_perception").removeHandler(self._log_handler)
        super().destroy_node()

    def _open_pipeline(self, config: PasrConfig) -> PosePipeline:
        if not self._config.library:
            raise ConfigError("library: expected the folder of a library made by `pasr library build`, got ''")
        from pasr_perception.pipeline import Pipeline  # brings torch and the encoders with it

        started = time.monotonic()
        self.get_logger().info(f"loading library {self._config.library!r} and encoder {config.encoder.name!r}")
        pipeline = Pipeline.open(Path(self._config.library).expanduser(), config)
        self.get_logger().info(f"loaded in {time.monotonic() - started:.1f} s")
        return pipeline

    def _subscribe(self, image_topic: str) -> None:
        add = self._inputs.add
        image_type = Image if self._config.image_transport == "raw" else CompressedImage
        self.create_subscription(image_type, image_topic, partial(add, IMAGE), IMAGE_QOS)
        self.create_subscription(CameraInfo, "camera_info", partial(add, CAMERA_INFO), CAMERA_INFO_QOS)
        self.create_subscription(Detection2DArray, "detections", partial(add, DETECTIONS), DETECTIONS_QOS)

    def _submit(self, inputs: InputSet) -> None:
        self.diagnostics.received(dropped=self._worker.submit(inputs))

    def _restart(self) -> None:
        self._worker.clear()
        self.get_logger().info("stamps jumped back (a bag that starts again?): starting afresh")

    def _process(self, inputs: InputSet) -> None:
        """One set of messages, from conversion to publication; runs in the worker."""
        started = time.perf_counter()
        frame = frame_from_msgs(inputs.image, inputs.camera_info, self._config.rectified)
        detections, bad = detections_from_msg(inputs.detections)
        converted = time.perf_counter()
        result = self._pipeline.detect(frame, detections)
        if not self.context.ok():
            return
        objects, poseless = self._publisher.publish(inputs.image.header, result)
        late_ns = self.get_clock().now().nanoseconds - frame.stamp_ns
        problems = [(error.what, str(error)) for error in bad]
        problems += [("detection rejected", f"detection {d.id!r}: {reason}") for d, reason in result.rejected]
        problems += [("no pose", text) for text in poseless]
        for kind, text in problems:
            self._complaints.complain(kind, text)
        seconds = (converted - started, late_ns * 1e-9)
        said = tuple(text for _, text in problems)
        self.diagnostics.answered(FrameReport(frame.stamp_ns, objects, said, result.timings, *seconds))
        self._publisher.publish_debug(inputs.image.header, frame, result)

    def _survive(self, error: Exception, inputs: InputSet) -> None:
        """A frame that failed: say so once per kind and period, go on with the next."""
        if not self.context.ok():
            return  # shutting down: publishers are gone
        if isinstance(error, BadMessage):
            kind, text = error.what, str(error)
        else:
            kind, text = f"worker {type(error).__name__}", f"{type(error).__name__}: {error}"
        trace = "" if isinstance(error, BadMessage) else "\n" + "".join(traceback.format_exception(error))
        self._complaints.complain(kind, text, trace)
        self.diagnostics.failed(stamp_to_ns(inputs.image.header), text)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop. Returns the exit code: 1 if it could not start."""
    rclpy.init(args=args)
    node: PasrNode | None = None
    try:
        node = PasrNode()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:  # the edge of the process: whatever it was, say it in one line
        if rclpy.ok():
            rclpy.logging.get_logger(NODE_NAME).fatal(f"cannot go on: {type(error).__name__}: {error}")
            return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
