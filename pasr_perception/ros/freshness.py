"""When an image is too old to be begun: grown older than one period of its camera, while the next one is to be had.

An image that waits behind a busy worker grows old. When it is older than a period by then, the next one was taken already
and is on its way: the old one gives way to it. If none comes for so long that the camera must have stopped, the old one is
the newest there is, and begun after all: a single image, the last one of a bag and the last of a burst are answered.

An image that is older than a period when it comes is begun as soon as the worker is free, and so is whatever comes to an idle
worker: waiting would not make it younger. A pipeline that is slower than the camera takes the newest image each time.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

REMEMBERED = 9  # images that the period is taken from: its median, so that lost ones do not count
STOPPED = 2.5  # periods without an image after which no more are expected: one may be lost
WAITED = 0.25  # of a period: who waited less came to an idle worker


@dataclass(frozen=True)
class _Arrival:
    stamp_ns: int
    delay_ns: int  # from the stamp until it came


class Freshness:
    """Told of every image as it comes; says how long to wait for a newer one. Not for several cameras."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._arrivals: deque[_Arrival] = deque(maxlen=REMEMBERED)

    def came(self, stamp_ns: int) -> None:
        """Note an image that has just come."""
        if self._arrivals and stamp_ns <= self._arrivals[-1].stamp_ns:
            self._arrivals.clear()  # another clock
        self._arrivals.append(_Arrival(stamp_ns, self._now_ns() - stamp_ns))

    def patience_s(self, stamp_ns: int) -> float:
        """How long to wait for a newer image before this one, the newest, is begun; 0: begin."""
        arrivals, now_ns = list(self._arrivals), self._now_ns()
        period_ns = _period_ns(arrivals)
        if period_ns is None or not _grew_old(stamp_ns, arrivals[-1], period_ns, now_ns):
            return 0.0
        left_ns = arrivals[-1].stamp_ns + arrivals[-1].delay_ns + STOPPED * period_ns - now_ns
        return min(max(0.0, left_ns), STOPPED * period_ns) * 1e-9

    def outdated(self, stamp_ns: int) -> str:
        """In words, if an image that is begun now has grown older than it should be; else nothing."""
        arrivals, now_ns = list(self._arrivals), self._now_ns()
        period_ns = _period_ns(arrivals)
        if period_ns is None or not _grew_old(stamp_ns, arrivals[-1], period_ns, now_ns):
            return ""
        every, age = f"one comes every {period_ns * 1e-6:.0f} ms", f"{(now_ns - stamp_ns) * 1e-6:.0f} ms"
        return f"the image was {age} old when its turn came, no newer one was to be had, although {every}"


def _period_ns(arrivals: Sequence[_Arrival]) -> float | None:
    """The camera's period; None while it is not known."""
    if len(arrivals) < 3:
        return None
    return statistics.median(b.stamp_ns - a.stamp_ns for a, b in itertools.pairwise(arrivals))


def _grew_old(stamp_ns: int, last: _Arrival, period_ns: float, now_ns: int) -> bool:
    """Whether an image came in time and is older than a period now, or a newer one came while this one was being looked at."""
    age_ns = now_ns - stamp_ns
    came_in_time = 0 <= last.delay_ns <= period_ns and age_ns - last.delay_ns >= WAITED * period_ns
    return age_ns > period_ns and (came_in_time or last.stamp_ns > stamp_ns)
