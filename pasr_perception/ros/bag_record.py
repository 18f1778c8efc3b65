"""Records topics from ROS into a bag: the serialised bytes as they come, no message is decoded.

A topic is subscribed to as soon as somebody offers it, with the quality of service that is offered. The bag is finished
properly on SIGINT, on SIGTERM, after a time, after a silence, or before the disk is full.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from pasr_perception.data.assemble import RawMessage
from pasr_perception.data.bagio import BagError, BagWriter
from pasr_perception.ros.bag_process import Stop, message_class, ros_node

log = logging.getLogger(__name__)

# what `pasr bag evaluate` reads, and what RViz shows
NODE_TOPICS = (
    "/pasr_node/objects",
    "/pasr_node/coarse_objects",
    "/pasr_node/markers",
    "/pasr_node/vision_info",
    "/tf",
    "/diagnostics",
)
LOOK_PERIOD = 0.1  # s between looks for topics that are newly offered
QUEUE = 100


@dataclass(frozen=True)
class RecordOptions:
    """When recording ends; 0 = never by this."""

    duration_s: float = 0.0
    idle_s: float = 0.0  # without any message, once the first has come
    overwrite: bool = False
    reserve_bytes: int = 100 * 2**20  # recording ends while this much is free, so that the bag can be finished


class BagRecorder:
    """Writes what arrives on `topics` into `writer`."""

    def __init__(self, node: Node, topics: Sequence[str], writer: BagWriter) -> None:
        self._node, self._writer = node, writer
        self._waiting = set(topics)
        self._subscriptions: list[Subscription] = []
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self.counts: Counter[str] = Counter()
        self._last = 0.0

    def run(self, options: RecordOptions, stop: Stop) -> None:
        """Record until `stop`, or until `options` say so."""
        started, next_look = time.monotonic(), 0.0
        while not stop:
            now, before = time.monotonic(), self.counts.total()
            if options.duration_s and now - started > options.duration_s:
                return
            if now >= next_look:
                free = shutil.disk_usage(self._writer.path.parent).free
                if free < options.reserve_bytes:
                    log.error("the disk is nearly full (%d MB left): recording ends here", free // 2**20)
                    return
                self._look_for_topics()
                next_look = now + LOOK_PERIOD
            self._executor.spin_once(timeout_sec=LOOK_PERIOD)
            nothing_waits = self.counts.total() == before  # after a stall of this process there may be plenty
            if options.idle_s and before and nothing_waits and now - self._last > options.idle_s:
                return

    def _look_for_topics(self) -> None:
        for topic in sorted(self._waiting):
            offers = self._node.get_publishers_info_by_topic(topic)
            if offers:
                self._waiting.discard(topic)
                self._subscribe(topic, offers[0].topic_type, [offer.qos_profile for offer in offers])

    def _subscribe(self, topic: str, kind: str, offered: Sequence[QoSProfile]) -> None:
        try:
            self._writer.declare(topic, kind)
            message = message_class(kind)
        except ValueError as error:  # BagError is one
            log.error("%s is not recorded: %s", topic, error)
            return
        # the strictest that every publisher can serve
        reliable = all(q.reliability == ReliabilityPolicy.RELIABLE for q in offered)
        latched = all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered)
        qos = QoSProfile(
            depth=QUEUE,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        callback = partial(self._received, topic, kind)
        self._subscriptions.append(self._node.create_subscription(message, topic, callback, qos, raw=True))
        log.info("recording %s (%s)", topic, kind)

    def _received(self, topic: str, kind: str, data: bytes) -> None:
        self._last = time.monotonic()
        try:
            self._writer.write_raw(RawMessage(topic, kind, time.time_ns(), bytes(data)))
        except OSError as error:
            path = self._writer.path
            raise BagError(f"{path}: cannot be written ({error.strerror}); what was there before is kept") from error
        if not self.counts[topic]:
            log.info("the first message came on %s", topic)
        self.counts[topic] += 1


def record(path: str | Path, topics: Sequence[str], options: RecordOptions) -> dict[str, int]:
    """Record into the new bag `path`; returns the number of messages per topic. Raises BagError."""
    if not topics:
        raise BagError(f"{path}: expected at least one topic to record")
    with BagWriter(path, options.overwrite) as writer, ros_node("pasr_bag_record") as (node, stop):
        recorder = BagRecorder(node, topics, writer)
        recorder.run(options, stop)
        return dict(recorder.counts)
