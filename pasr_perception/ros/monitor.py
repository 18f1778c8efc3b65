"""What arrives on the inputs, and why nothing comes of it: silence, one silent topic, or stamps that never meet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class InputStatus:
    """What came on one topic since the last look."""

    topic: str
    total: int
    rate_hz: float
    last_stamp_ns: int | None
    silent_s: float  # since the last message, or since the node began to listen


@dataclass(frozen=True)
class Unmatched:
    """Why no set of inputs was found."""

    cause: str  # without numbers
    text: str

    def __str__(self) -> str:
        return self.text


class InputMonitor:
    """Counts what arrives per topic. Times are seconds of a monotonic clock. Safe to call from several threads.

    The first `required` topics have to come; the others are counted only.
    """

    def __init__(
        self, topics: Sequence[str], clock: Callable[[], float] = time.monotonic, required: int | None = None
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._topics = tuple(topics)
        self._required = len(self._topics) if required is None else required
        self._totals = [0] * len(self._topics)
        self._stamps: list[int | None] = [None] * len(self._topics)
        self._last_arrivals = [clock()] * len(self._topics)
        self._last_match = clock()
        self._window_start = clock()
        self._window_totals = [0] * len(self._topics)

    def arrived(self, index: int, stamp_ns: int) -> None:
        """Count a message of topic `index`."""
        with self._lock:
            self._totals[index] += 1
            self._stamps[index] = stamp_ns
            self._last_arrivals[index] = self._clock()

    def matched(self) -> None:
        """Note that a set was found."""
        self._last_match = self._clock()

    def idle(self) -> None:
        """Note that work on a set has ended: from now on the next one is waited for."""
        self._last_match = self._clock()

    def status(self) -> tuple[InputStatus, ...]:
        """Totals and the rates since the previous call, one entry per topic."""
        with self._lock:
            now = self._clock()
            span = max(now - self._window_start, 1e-9)
            rates = [(t - w) / span for t, w in zip(self._totals, self._window_totals, strict=True)]
            self._window_start, self._window_totals = now, list(self._totals)
            silences = [now - arrival for arrival in self._last_arrivals]
            columns = zip(self._topics, self._totals, rates, self._stamps, silences, strict=True)
            return tuple(InputStatus(*column) for column in columns)

    def why_nothing_matches(self, status: Sequence[InputStatus], patience_s: float) -> Unmatched | None:
        """The reason in one sentence if messages came but no set was found for `patience_s`, else None."""
        status = status[: self._required]
        waited = self._clock() - self._last_match
        if not any(s.total for s in status) or waited < patience_s:
            return None
        seen = ", ".join(f"{s.topic} {s.total} ({s.rate_hz:.1f} Hz)" for s in status)
        silent = [s for s in status if s.silent_s >= patience_s or s.total == 0]
        if silent:
            longest = max(s.silent_s for s in silent)
            names = ", ".join(s.topic for s in silent)
            cause = f"no image can be processed: nothing came on {names}"
            return Unmatched(cause, f"{cause} for {longest:.1f} s; received: {seen}")
        stamps = [s.last_stamp_ns for s in status if s.last_stamp_ns is not None]
        apart = f"the newest stamps lie {(max(stamps) - min(stamps)) * 1e-9:.3f} s apart"
        cause = "no image can be processed: stamps do not match"
        return Unmatched(cause, f"{cause} for {waited:.1f} s; received: {seen}; {apart}")
