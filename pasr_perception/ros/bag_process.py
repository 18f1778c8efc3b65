"""What the bag player and recorder share: message classes by name, and an orderly end on SIGINT and SIGTERM."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions


class Stop:
    """Becomes true once the process was asked to end."""

    def __init__(self) -> None:
        self._asked = False

    def __bool__(self) -> bool:
        return self._asked

    def ask(self, *_: object) -> None:
        self._asked = True


@contextmanager
def ros_node(name: str) -> Iterator[tuple[Node, Stop]]:
    """A node in a context of its own; SIGINT and SIGTERM only raise the flag, so that files get finished."""
    stop = Stop()
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    node = rclpy.create_node(name, context=context)
    try:
        yield node, stop
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
        for number, handler in before.items():
            signal.signal(number, handler)


def message_class(kind: str) -> Any:
    """The generated class of e.g. `sensor_msgs/msg/Image`; ValueError naming the package that is not installed."""
    package, _, name = kind.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"message type {kind}: expected the ROS package {package} to be installed ({error})"
        ) from error
