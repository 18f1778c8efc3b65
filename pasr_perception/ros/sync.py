"""Which image, camera_info and detections belong together: matching by stamp, in plain Python and free of ROS types.

The same stamp wins; without it the nearest within a slop. Buffers are bounded, and once a set is found everything
older is forgotten: a robot wants the newest answer, not all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any


class StampMatcher:
    """Finds sets of messages, one per input, whose stamps lie within `slop_ns` of each other.

    Raises ValueError for fewer than two inputs, a depth below 1 or a slop that is not positive.
    """

    def __init__(self, inputs: int, depth: int, slop_ns: int) -> None:
        for name, value, least in (("inputs", inputs, 2), ("depth", depth, 1), ("slop_ns", slop_ns, 1)):
            if value < least:
                raise ValueError(f"{name}: expected at least {least}, got {value}")
        self._depth = depth
        self._slop_ns = slop_ns
        self._buffers: list[dict[int, Any]] = [{} for _ in range(inputs)]  # stamp -> item, in order of arrival

    def add(self, index: int, stamp_ns: int, item: Any) -> tuple[Any, ...] | None:
        """Take one message of input `index`; return the set it completes, in the order of the inputs, else None."""
        buffer = self._buffers[index]
        buffer.pop(stamp_ns, None)
        buffer[stamp_ns] = item
        while len(buffer) > self._depth:
            del buffer[next(iter(buffer))]  # the first to arrive, which is also right after the clock jumped back
        stamps = self._closest_set(index, stamp_ns)
        if stamps is None:
            return None
        found = tuple(b[s] for b, s in zip(self._buffers, stamps, strict=True))
        self._forget_up_to(stamps)
        return found

    def clear(self) -> None:
        """Forget everything that waits."""
        for buffer in self._buffers:
            buffer.clear()

    def waiting(self) -> tuple[int, ...]:
        """How many messages of each input wait for a partner."""
        return tuple(len(b) for b in self._buffers)

    def _closest_set(self, index: int, stamp_ns: int) -> tuple[int, ...] | None:
        """One stamp per input, nearest to `stamp_ns` first, whose spread stays below the slop."""
        choices: list[list[int]] = []
        for i, buffer in enumerate(self._buffers):
            near = [stamp_ns] if i == index else [s for s in buffer if abs(s - stamp_ns) < self._slop_ns]
            choices.append(sorted(near, key=lambda s: abs(s - stamp_ns)))
        for stamps in itertools.product(*choices):
            if max(stamps) - min(stamps) < self._slop_ns:
                return stamps
        return None

    def _forget_up_to(self, stamps: Sequence[int]) -> None:
        for buffer, matched in zip(self._buffers, stamps, strict=True):
            for stamp in [s for s in buffer if s <= matched]:
                del buffer[stamp]
