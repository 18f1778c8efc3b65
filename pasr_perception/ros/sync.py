"""Which image, camera_info and detections belong together: matching by stamp, in plain Python and free of ROS types.

The same stamp wins; without it the nearest within a slop. Buffers are bounded, and once a set is found everything
older is forgotten: a robot wants the newest answer, not all of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class InputStatus:
    """What came on one topic since the last look."""

    topic: str
    total: int
    rate_hz: float
    last_stamp_ns: int | None


class InputMonitor:
    """Counts what arrives per topic, and says why nothing matches. Times are seconds of a monotonic clock."""

    def __init__(self, topics: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._topics = tuple(topics)
        self._totals = [0] * len(self._topics)
        self._stamps: list[int | None] = [None] * len(self._topics)
        self._last_arrival: float | None = None
        self._last_match = clock()
        self._window_start = clock()
        self._window_totals = [0] * len(self._topics)

    def arrived(self, index: int, stamp_ns: int) -> None:
        """Count a message of topic `index`."""
        self._totals[index] += 1
        self._stamps[index] = stamp_ns
        self._last_arrival = self._clock()

    def matched(self) -> None:
        """Note that a set was found."""
        self._last_match = self._clock()

    def status(self) -> tuple[InputStatus, ...]:
        """Totals and the rates since the previous call, one entry per topic."""
        now = self._clock()
        span = max(now - self._window_start, 1e-9)
        rates = [(t - w) / span for t, w in zip(self._totals, self._window_totals, strict=True)]
        self._window_start, self._window_totals = now, list(self._totals)
        columns = zip(self._topics, self._totals, rates, self._stamps, strict=True)
        return tuple(InputStatus(*column) for column in columns)

    def why_nothing_matches(self, status: Sequence[InputStatus], patience_s: float) -> str | None:
        """One sentence if messages arrive but no set was found for `patience_s`, else None."""
        now = self._clock()
        quiet = self._last_arrival is None or now - self._last_arrival > patience_s
        if quiet or now - self._last_match < patience_s:
            return None
        seen = ", ".join(f"{s.topic} {s.total} ({s.rate_hz:.1f} Hz)" for s in status)
        missing = [s.topic for s in status if s.total == 0]
        if missing:
            return f"no image can be processed: nothing came on {', '.join(missing)}; received: {seen}"
        stamps = [s.last_stamp_ns for s in status if s.last_stamp_ns is not None]
        apart = (max(stamps) - min(stamps)) * 1e-9
        return (
            f"no image can be processed: stamps do not match for {now - self._last_match:.1f} s; received: {seen}; "
            f"the newest stamps lie {apart:.3f} s apart"
        )
