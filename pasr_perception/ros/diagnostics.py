"""What the node tells /diagnostics: one status per processed frame, and one per second about itself and its inputs."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from pasr_perception.ros.logs import Complaints, LastingProblem
from pasr_perception.ros.monitor import InputMonitor
from pasr_perception.types import StageTimings, TrackTimings

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
COUNTED = ("received", "answered", "dropped", "outdated", "failed", "rejected", "ignored")


@dataclass(frozen=True)
class FrameReport:
    """What is to say of one answered frame."""

    stamp_ns: int
    objects: int
    problems: tuple[str, ...]  # why a detection has no answer, one per detection
    timings: StageTimings | TrackTimings
    wait_s: float  # from the image's stamp to the beginning of the work on it
    convert_s: float  # decoding and checking the messages
    publish_s: float  # making and sending the answer
    stamp_to_publish_s: float
    notes: tuple[str, ...] = ()  # what made the answer worse than it could be, without taking it away
    tracks: Mapping[str, str] = field(default_factory=dict)  # {name: state and reason} of what is followed


def latencies_ms(report: FrameReport) -> dict[str, float]:
    """Per-stage wall time in milliseconds, as `latency_ms/<stage>`."""
    stages = {f.name: getattr(report.timings, f.name) for f in dataclasses.fields(report.timings) if f.type == "float"}
    stages |= {"total": report.timings.total, "wait": report.wait_s, "convert": report.convert_s}
    stages |= {"publish": report.publish_s, "stamp_to_publish": report.stamp_to_publish_s}
    return {f"latency_ms/{name}": seconds * 1e3 for name, seconds in stages.items()}


class Diagnostics:
    """Counts and publishes; safe to call from the worker and from callbacks.

    `state` says in a word what the node is doing (its lifecycle state).
    """

    def __init__(self, node: Node, complaints: Complaints, state: Callable[[], str]) -> None:
        self._node, self._complaints, self._state = node, complaints, state
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._lock = threading.Lock()
        self._counts = {f"frames/{name}": 0 for name in COUNTED}
        self._last_error = ""
        self._busy_since: float | None = None
        self._waiting = LastingProblem(complaints, "images are processed again")
        self._stall = LastingProblem(complaints, "the frame that took so long is done")
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.monitor: InputMonitor | None = None  # while the node listens

    @property
    def counts(self) -> dict[str, int]:
        """Frames received, answered, dropped and so on so far."""
        with self._lock:
            return dict(self._counts)

    def count(self, name: str) -> None:
        """Add one to the counter `frames/<name>`."""
        with self._lock:
            self._counts[f"frames/{name}"] += 1

    def began(self) -> None:
        """Note that work on a frame begins."""
        self._busy_since = time.monotonic()

    def answered(self, report: FrameReport) -> None:
        """Report a frame that went through."""
        self._ended()
        self.count("answered")
        text = f"{report.objects} objects in {report.timings.total * 1e3:.0f} ms"
        if report.problems:
            text += f", {len(report.problems)} detections without an answer: {report.problems[0]}"
        text = "; ".join([text, *report.notes])
        values = {"frame_stamp": report.stamp_ns, "objects": report.objects, "unanswered": len(report.problems)}
        values |= {name: f"{ms:.3f}" for name, ms in latencies_ms(report).items()}
        counted = [f.name for f in dataclasses.fields(report.timings) if f.type == "int"]
        values |= {f"count/{name.removesuffix('_count')}": getattr(report.timings, name) for name in counted}
        level = WARN if report.problems or report.notes else OK
        followed = f"{len(report.tracks)} objects are followed"
        tracks = [("tracks", OK, followed, report.tracks)] if isinstance(report.timings, TrackTimings) else []
        self._publish(("pipeline", level, text, values | self._common()), *tracks)

    def failed(self, stamp_ns: int, error: str) -> None:
        """Report a frame that ended in `error`."""
        self._ended()
        self.count("failed")
        self._last_error = error
        self._publish(("pipeline", ERROR, error, {"frame_stamp": stamp_ns} | self._common()))

    def _ended(self) -> None:
        self._busy_since = None
        if self.monitor is not None:
            self.monitor.idle()

    def check(self, patience_s: float) -> None:
        """Report the node's state and what arrives; complain if nothing comes of it. To be called every second."""
        status = self.monitor.status() if self.monitor else ()
        busy_since = self._busy_since
        busy_s = 0.0 if busy_since is None else time.monotonic() - busy_since
        # a player may hold the next frame until the one under way is done
        waiting = self.monitor if busy_since is None else None
        unmatched = waiting.why_nothing_matches(status, patience_s) if waiting else None
        if self.monitor:
            self._waiting.now(unmatched.cause if unmatched else "", str(unmatched))
        stalled = f"the frame under way takes {busy_s:.1f} s so far" if busy_s > patience_s else ""
        self._stall.now("stalled" if stalled else "", stalled)
        problems = [str(p) for p in (unmatched, stalled) if p]
        values: dict[str, object] = {"state": self._state()}
        for item in status:
            values |= {f"{item.topic}/received": item.total, f"{item.topic}/rate_hz": f"{item.rate_hz:.2f}"}
        receiving = "receiving" if any(s.total for s in status) else "no input yet"
        text = "; ".join(problems) or (receiving if self.monitor else f"not listening: {self._state()}")
        self._publish(("input", WARN if problems else OK, text, values | self._common()))

    def _common(self) -> dict[str, object]:
        common: dict[str, object] = {**self.counts, "last_error": self._last_error}
        return common | {"complaints": self._complaints.total, "last_complaint": self._complaints.last}

    def _publish(self, *parts: tuple[str, bytes, str, Mapping[str, object]]) -> None:
        """Send one status for each part: its name, level, text and values."""
        message = DiagnosticArray()
        for part, level, text, values in parts:
            status = DiagnosticStatus(level=level, name=f"{self._name}: {part}", message=text)
            status.values = _key_values(list(values.items()))
            message.status.append(status)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def _key_values(items: Sequence[tuple[str, object]]) -> list[KeyValue]:
    return [KeyValue(key=key, value=str(value)) for key, value in items]
