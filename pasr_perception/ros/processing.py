"""What the worker does with one set of messages: convert, answer, publish, report. Faults end here, in words."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rclpy.node import Node

from pasr_perception.config import PasrConfig
from pasr_perception.ros.answers import Detecting, Following, Single, Tracking
from pasr_perception.ros.checks import BadMessage, stamp_to_ns
from pasr_perception.ros.convert import RememberedCamera, depth_for, detections_from_msg, frame_from_msgs
from pasr_perception.ros.diagnostics import Diagnostics, FrameReport
from pasr_perception.ros.frames import CameraPlace
from pasr_perception.ros.inputs import InputSet
from pasr_perception.ros.logs import Complaints
from pasr_perception.ros.params import NodeConfig
from pasr_perception.ros.publish import Library, ResultPublisher
from pasr_perception.track import Tracker
from pasr_perception.types import Frame


class PosePipeline(Detecting, Protocol):
    """What the node asks of `pasr_perception.Pipeline`."""

    @property
    def library(self) -> Library: ...

    def reopened(self, library_dir: Path) -> PosePipeline: ...


MakeTracker = Callable[[Any], Tracking]


class FrameProcessor:
    """Announces its library, then answers sets of inputs, one after the other.

    `process` and `survive` run in the worker, the rest anywhere.
    """

    def __init__(
        self,
        node: Node,
        pipeline: PosePipeline,
        publisher: ResultPublisher,
        diagnostics: Diagnostics,
        speech: Complaints,
        make_tracker: MakeTracker = Tracker,
    ) -> None:
        self._node, self._pipeline, self._publisher = node, pipeline, publisher
        self._diagnostics, self._complaints = diagnostics, speech
        self._make_tracker, self._read_camera = make_tracker, RememberedCamera()
        self._between_frames = threading.Lock()
        self._forget_asked = self._retune_asked = False
        self._config = publisher.config
        self._version = 0
        fixed_frame = self._config.fixed_frame if self._config.tracking else ""
        self._camera = CameraPlace(node, fixed_frame) if fixed_frame else None
        self.use(pipeline, publisher.config)

    def destroy(self) -> None:
        """Stop listening to TF."""
        if self._camera is not None:
            self._camera.destroy()

    def _way_to_answer(self, pipeline: PosePipeline) -> Single | Following:
        if not self._config.tracking:
            return Single(pipeline)
        return Following(pipeline, self._make_tracker(pipeline), self._camera_place if self._camera else None)

    def _camera_place(self, frame: Frame) -> tuple[np.ndarray | None, str]:
        assert self._camera is not None
        T, problem = self._camera.at(frame.frame_id, frame.stamp_ns)
        if problem:
            self._complaints.complain("no transform" if T is None else "old transform", problem)
        return T, problem

    @property
    def pipeline(self) -> PosePipeline:
        return self._pipeline

    @property
    def meshes(self) -> int:
        return len(self._pipeline.library.entries)

    def use(self, pipeline: PosePipeline, config: NodeConfig) -> int:
        """Go over to another pipeline with the next frame and announce its library; returns the announced version."""
        with self._between_frames:
            self._pipeline, self._publisher.config = pipeline, config
            self._answers = self._way_to_answer(pipeline)
            self._version += 1
            self._publisher.use_library(pipeline.library)
            self._publisher.publish_library(self._version)
            return self._version

    def reconfigure(self, config: NodeConfig, pasr_config: PasrConfig) -> None:
        """Take over what may change while frames are answered."""
        self._config = self._publisher.config = config
        self._pipeline.config = pasr_config
        self._retune_asked = True

    def forget(self) -> None:
        """Forget what was seen so far: objects are new to TF and RViz from the next frame on. Does not wait."""
        self._forget_asked = True
        if self._between_frames.acquire(blocking=False):  # no frame is under way
            try:
                self._forget_if_asked()
            finally:
                self._between_frames.release()

    def process(self, inputs: InputSet, note: str = "") -> None:
        """One set of messages, from conversion to publication; `note`: what is to be said of it, if anything."""
        with self._between_frames:
            self._forget_if_asked()
            if self._retune_asked:
                self._retune_asked = False
                self._answers.reconfigure()
            self._diagnostics.began()
            self._process(inputs, note)

    def _forget_if_asked(self) -> None:
        if self._forget_asked:
            self._forget_asked = False
            self._answers.forget()
            self._publisher.forget()

    def _process(self, inputs: InputSet, note: str) -> None:
        times, waited_s = [time.perf_counter()], self._age_s(inputs)
        frame, notes = self._frame(inputs)
        detections, bad = detections_from_msg(inputs.detections, self._answers.anonymous)
        times.append(time.perf_counter())
        answer = self._answers.answer(frame, detections)
        times.append(time.perf_counter())
        notes = (*filter(None, [note]), *notes, *answer.notes)
        if not self._node.context.ok():
            return
        objects, poseless = self._publisher.publish(inputs.image.header, answer.settled, answer.unsettled)
        times.append(time.perf_counter())
        problems = [(error.what, str(error)) for error in bad]
        problems += [("detection rejected", f"detection {d.id!r}: {reason}") for d, reason in answer.rejected]
        problems += [("no pose", text) for text in poseless]
        for kind, text in problems:
            self._complaints.complain(kind, text)
        said = tuple(text for _, text in problems)
        seconds = (waited_s, times[1] - times[0], times[3] - times[2], self._age_s(inputs))
        report = FrameReport(frame.stamp_ns, objects, said, answer.timings, *seconds, notes, answer.tracks)
        self._diagnostics.answered(report)
        self._publisher.publish_debug(inputs.image.header, frame, answer.settled)

    def _age_s(self, inputs: InputSet) -> float:
        """How long ago the image was taken."""
        return (self._node.get_clock().now().nanoseconds - stamp_to_ns(inputs.image.header)) * 1e-9

    def _frame(self, inputs: InputSet) -> tuple[Frame, tuple[str, ...]]:
        """The frame, with depth where that is wanted and usable, and why it is not."""
        frame = frame_from_msgs(inputs.image, inputs.camera_info, self._config.rectified, self._read_camera)
        if not self._config.use_depth:
            return frame, ()
        try:
            return replace(frame, depth=depth_for(frame, inputs.depth, self._config.sync_slop_s)), ()
        except BadMessage as error:
            self._complaints.complain(error.what, f"{error}; going on without depth")
            return frame, (f"without depth: {error}",)

    def survive(self, error: Exception, inputs: InputSet) -> None:
        """A frame that failed: say so once per kind and period, go on with the next."""
        if not self._node.context.ok():
            return  # shutting down: publishers are gone
        if isinstance(error, BadMessage):
            kind, text, trace = error.what, str(error), ""
        else:
            kind, text = f"worker {type(error).__name__}", f"{type(error).__name__}: {error}"
            trace = "\n" + "".join(traceback.format_exception(error))
        self._complaints.complain(kind, text, trace)
        self._diagnostics.failed(stamp_to_ns(inputs.image.header), text)
