"""Messages taken from a subscription without the executor, when one of a set has come and its partners may be there already.

rclpy's executor looks at everything a node has before it hands over the next message, about a millisecond each time, and a frame is
three messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rclpy.exceptions import InvalidHandle
from rclpy.subscription import Subscription

AT_ONCE = 5  # messages of a topic; a flood must not keep the others waiting


def waiting_messages(subscription: Subscription) -> Iterator[Any]:
    """What waits at a subscription, oldest first. To be used from one of its callback group's callbacks."""
    try:
        for _ in range(AT_ONCE):
            with subscription.handle:
                taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is None:
                return
            yield taken[0]
    except InvalidHandle:  # destroyed meanwhile
        return
