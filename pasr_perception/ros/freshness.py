"""When an image is too old to be begun: older than one period of its camera, while the next one is to be had.

An image that waits behind a busy worker grows old. When it is older than a period by then, the next one was taken already
and is on its way: the old one gives way to it. If none comes for so long that the camera must have stopped, the old one is
the newest there is, and begun after all: a single image, the last one of a bag and the last of a burst are answered.

Of images that are about as old as a period when they come, no waiting makes a younger one; these are begun at once. Only this
camera's own pace counts: a pipeline that is slower than it takes the newest image each time.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

REMEMBERED = 9  # images that period and delay are taken from: their medians, so that lost and late ones do not count
STOPPED = 2.5  # periods without an image after which no more are expected: one may be lost
IN_TIME = 0.75  # of a period: an image that is younger when it comes can be begun before it is as old as one


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
        arrivals = list(self._arrivals)
        period_ns, now_ns = _period_ns(arrivals), self._now_ns()
        if period_ns is None or now_ns - stamp_ns <= period_ns:
            return 0.0
        last = arrivals[-1]
        left_ns = last.stamp_ns + last.delay_ns + STOPPED * period_ns - now_ns
        return min(max(0.0, left_ns), STOPPED * period_ns) * 1e-9

    def outdated(self, stamp_ns: int) -> str:
        """In words, if an image that is begun now is older than it should be; else nothing."""
        period_ns, age_ns = _period_ns(list(self._arrivals)), self._now_ns() - stamp_ns
        if period_ns is None or age_ns <= period_ns:
            return ""
        every, age = f"one comes every {period_ns * 1e-6:.0f} ms", f"{age_ns * 1e-6:.0f} ms old when its turn came"
        return f"the image was {age}, no newer one was to be had, although {every}"


def _period_ns(arrivals: Sequence[_Arrival]) -> float | None:
    """The camera's period; None while it is not known, or where images are about as old as that when they come."""
    if len(arrivals) < 3:
        return None
    period_ns = statistics.median(b.stamp_ns - a.stamp_ns for a, b in itertools.pairwise(arrivals))
    delay_ns, usual_ns = arrivals[-1].delay_ns, statistics.median(a.delay_ns for a in arrivals)
    in_time = 0 <= delay_ns <= IN_TIME * period_ns or 0 <= usual_ns <= 0.5 * period_ns
    return period_ns if in_time else None
