"""Publishes a bag over ROS: the recorded bytes, at the recorded pace or another, with /clock if wanted.

Answers may take longer than frames come. `hold` makes the player wait for the answer to each frame before it sends the
next, so that every frame is answered on a slow machine; without it the pace is the bag's, and a slow node drops frames.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from pasr_perception.data.assemble import BagTopics, RawMessage
from pasr_perception.data.bagio import BagReader
from pasr_perception.ros.bag_process import Stop, message_class, ros_node

log = logging.getLogger(__name__)

# reliable and latched serves every kind of subscriber, and latched ones get the last messages when they come late
PLAYER_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
CLOCK_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
CLOCK_PERIOD = 0.01  # s
SETTLE_SECONDS = 2.0  # discovery is mutual within a fraction of it, on a busy machine too
ANSWER_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
FLUSH = 1.0  # s that readers get to take the last messages before the publishers vanish


class PlayError(RuntimeError):
    """Playing cannot begin or go on; the message says what was waited for."""


@dataclass(frozen=True)
class PlayOptions:
    """How a bag is played."""

    rate: float = 1.0  # times the recorded pace
    clock: bool = False  # publish /clock with the bag's time
    loop: bool = False
    wait_s: float = 0.0  # wait so long for subscribers of image, camera_info and detections; 0 = do not wait
    hold: str = ""  # topic whose next message is waited for after every frame; empty = do not wait
    hold_timeout_s: float = 60.0  # then the next frame is sent all the same
    topics: tuple[str, ...] = ()  # only these; empty = all

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"rate: expected more than 0, got {self.rate}")


class BagPlayer:
    """Plays one bag through the publishers of a node."""

    def __init__(self, node: Node, reader: BagReader, options: PlayOptions, stop: Stop) -> None:
        self._node, self._reader, self._options, self._stop = node, reader, options, stop
        unknown = sorted(set(options.topics) - set(reader.topics))
        if unknown:
            raise PlayError(f"{reader.path}: no topic {', '.join(unknown)}; it has {', '.join(sorted(reader.topics))}")
        chosen = {t: kind for t, kind in reader.topics.items() if not options.topics or t in options.topics}
        self._publishers: dict[str, Publisher] = {
            topic: node.create_publisher(message_class(kind), topic, PLAYER_QOS) for topic, kind in chosen.items()
        }
        self._clock = node.create_publisher(Clock, "/clock", CLOCK_QOS) if options.clock else None
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._answers = 0
        self._answer_subscription: Any = None

    def run(self) -> int:
        """Play to the end (or until told to stop); returns how many messages were sent."""
        self._wait_for_subscribers()
        log.info("playing %s at %g times its pace", self._reader.path, self._options.rate)
        sent = 0
        while not self._stop:
            sent += self._play_once()
            if not self._options.loop:
                break
        self._spin_until(time.monotonic() + FLUSH, None)
        return sent

    def _play_once(self) -> int:
        sent, origin = 0, None
        for bag_ns, group in self._groups():
            if origin is None:
                origin = (time.monotonic(), bag_ns)
            due = origin[0] + (bag_ns - origin[1]) * 1e-9 / self._options.rate
            self._spin_until(due, origin)
            if self._stop:
                break
            before = self._answers
            for item in group:
                self._publishers[item.topic].publish(item.data)
            sent += len(group)
            waited = self._hold(before, bag_ns)
            origin = (origin[0] + waited, origin[1])  # what was lost in waiting is not caught up with
        return sent

    def _groups(self) -> Iterator[tuple[int, list[RawMessage]]]:
        """Messages that were recorded at the same time: one camera frame with all that belongs to it."""
        for bag_ns, group in itertools.groupby(self._reader.raw(list(self._publishers)), key=lambda item: item.log_ns):
            yield bag_ns, list(group)

    def _spin_until(self, due: float, origin: tuple[float, int] | None) -> None:
        """Pass the time until `due` (monotonic, s); the clock runs on from `origin` (monotonic s, bag ns)."""
        while not self._stop and (left := due - time.monotonic()) > 0:
            if origin is not None:
                self._publish_clock(origin[1] + round((time.monotonic() - origin[0]) * 1e9 * self._options.rate))
            self._executor.spin_once(timeout_sec=min(left, CLOCK_PERIOD))
        if origin is not None:
            self._publish_clock(origin[1] + round((due - origin[0]) * 1e9 * self._options.rate))

    def _publish_clock(self, bag_ns: int) -> None:
        if self._clock is not None:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(bag_ns, 10**9)
            self._clock.publish(message)

    def _hold(self, before: int, bag_ns: int) -> float:
        """Wait for the answer to the frame just sent; returns the seconds that took. The bag's time stands still."""
        if not self._options.hold:
            return 0.0
        started = time.monotonic()
        limit = started + self._options.hold_timeout_s
        while not self._stop and self._answers == before and time.monotonic() < limit:
            self._listen_for_answers()
            self._publish_clock(bag_ns)
            self._executor.spin_once(timeout_sec=CLOCK_PERIOD)
        if self._answers == before and not self._stop:
            log.warning("no answer on %s after %.0f s; going on", self._options.hold, self._options.hold_timeout_s)
        return time.monotonic() - started

    def _listen_for_answers(self) -> None:
        """Subscribe to the hold topic as soon as its type is known, i.e. someone advertises it."""
        if self._answer_subscription is None:
            topic = self._options.hold
            for info in self._node.get_publishers_info_by_topic(topic)[:1]:
                kind = message_class(info.topic_type)
                self._answer_subscription = self._node.create_subscription(
                    kind, topic, self._answered, ANSWER_QOS, raw=True
                )

    def _answered(self, _: bytes) -> None:
        self._answers += 1

    def _wait_for_subscribers(self) -> None:
        """Until image, camera_info and detections are listened to; PlayError when that takes longer than `wait_s`."""
        options, topics = self._options, BagTopics()
        wanted = {topics.image, topics.compressed, topics.camera_info, topics.detections} & set(self._publishers)
        limit = time.monotonic() + options.wait_s
        while options.wait_s > 0 and not self._stop:
            missing = [t for t in sorted(wanted) if not self._publishers[t].get_subscription_count()]
            if options.hold:
                self._listen_for_answers()
                missing += [options.hold] if self._answer_subscription is None else []
            if not missing:
                self._settle()
                return
            if time.monotonic() > limit:
                raise PlayError(f"waited {options.wait_s:.0f} s, nobody is there for {', '.join(missing)}")
            self._executor.spin_once(timeout_sec=0.05)

    def _settle(self) -> None:
        """The subscribers are known here, but they may not know us yet; a best-effort image sent now would be lost."""
        until = time.monotonic() + SETTLE_SECONDS
        while not self._stop and time.monotonic() < until:
            self._executor.spin_once(timeout_sec=0.05)


def play(path: str | Path, options: PlayOptions) -> int:
    """Play the bag `path`; returns the number of messages sent. Raises BagError or PlayError."""
    with BagReader(path) as reader, ros_node("pasr_bag_play") as (node, stop):
        return BagPlayer(node, reader, options, stop).run()
