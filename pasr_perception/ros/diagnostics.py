"""What the node tells /diagnostics: one status per processed frame, and one per second about its inputs."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from pasr_perception.ros.logs import Complaints
from pasr_perception.ros.sync import InputMonitor
from pasr_perception.types import StageTimings


@dataclass(frozen=True)
class FrameReport:
    """What is to say of one answered frame."""

    stamp_ns: int
    objects: int
    problems: tuple[str, ...]  # why a detection has no answer, one per detection
    timings: StageTimings
    convert_s: float  # decoding and checking the messages
    stamp_to_publish_s: float


def latencies_ms(report: FrameReport) -> dict[str, float]:
    """Per-stage wall time in milliseconds, as `latency_ms/<stage>`."""
    stages = {f.name: getattr(report.timings, f.name) for f in dataclasses.fields(StageTimings)}
    stages |= {"total": report.timings.total, "convert": report.convert_s}
    stages |= {"stamp_to_publish": report.stamp_to_publish_s}
    return {f"latency_ms/{name}": seconds * 1e3 for name, seconds in stages.items()}


class Diagnostics:
    """Counts and publishes; safe to call from the worker and from callbacks."""

    def __init__(self, node: Node, complaints: Complaints, monitor: InputMonitor, patience_s: float) -> None:
        self._node = node
        self._complaints = complaints
        self._monitor = monitor
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._counts = {"frames/received": 0, "frames/answered": 0, "frames/dropped": 0, "frames/failed": 0}
        self._last_error = ""
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    @property
    def counts(self) -> dict[str, int]:
        """Frames received, answered, dropped and failed so far."""
        with self._lock:
            return dict(self._counts)

    def received(self, dropped: bool) -> None:
        """Count a complete set of inputs; `dropped`: an older one was thrown away for it."""
        with self._lock:
            self._counts["frames/received"] += 1
            self._counts["frames/dropped"] += int(dropped)

    def answered(self, report: FrameReport) -> None:
        """Report a frame that went through."""
        with self._lock:
            self._counts["frames/answered"] += 1
        level = DiagnosticStatus.WARN if report.problems else DiagnosticStatus.OK
        text = f"{report.objects} objects in {report.timings.total * 1e3:.0f} ms"
        if report.problems:
            text += f", {len(report.problems)} detections without an answer: {report.problems[0]}"
        latencies = {name: f"{ms:.3f}" for name, ms in latencies_ms(report).items()}
        values = {"frame_stamp": report.stamp_ns, "objects": report.objects, "unanswered": len(report.problems)}
        values |= latencies
        self._publish("pipeline", level, text, values)

    def failed(self, stamp_ns: int, error: str) -> None:
        """Report a frame that ended in `error`."""
        with self._lock:
            self._counts["frames/failed"] += 1
            self._last_error = error
        self._publish("pipeline", DiagnosticStatus.ERROR, error, {"frame_stamp": stamp_ns})

    def check_inputs(self) -> None:
        """Report what arrives; complain if it never matches. To be called about once per second."""
        status = self._monitor.status()
        problem = self._monitor.why_nothing_matches(status, self._patience_s)
        if problem:
            self._complaints.complain("inputs do not match", problem)
        level = DiagnosticStatus.WARN if problem else DiagnosticStatus.OK
        values: dict[str, object] = {}
        for item in status:
            values |= {f"{item.topic}/received": item.total, f"{item.topic}/rate_hz": f"{item.rate_hz:.2f}"}
        waiting = "no input yet" if not any(s.total for s in status) else "receiving"
        self._publish("input", level, problem or waiting, values)

    def _publish(self, part: str, level: bytes, text: str, values: Mapping[str, object]) -> None:
        common: dict[str, object] = {**self.counts, "last_error": self._last_error}
        common |= {"complaints": self._complaints.total, "last_complaint": self._complaints.last}
        status = DiagnosticStatus(level=level, name=f"{self._node.get_name()}: {part}", message=text)
        status.values = _key_values([*values.items(), *common.items()])
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def _key_values(items: Sequence[tuple[str, object]]) -> list[KeyValue]:
    return [KeyValue(key=key, value=str(value)) for key, value in items]
