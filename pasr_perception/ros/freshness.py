"""When an image is too old to be begun: once the next one is due and can be had instead.

An image that waits behind a busy worker grows old. When it is older than one period of the camera by then, the next one
was taken already and is on its way: it is waited for, as long as images take to come and half a period more, and if it
does not come the old one is answered after all. Images that come with more than a period's delay are begun at once.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Callable

REMEMBERED = 9  # images that the period is taken from: its median, so that lost ones do not count


class Freshness:
    """Told of every image as it comes; says how long to wait for a newer one. Not for several cameras."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._stamps: deque[int] = deque(maxlen=REMEMBERED)
        self._delay_ns = 0

    def came(self, stamp_ns: int) -> None:
        """Note an image that has just come."""
        if self._stamps and stamp_ns <= self._stamps[-1]:
            self._stamps.clear()  # another clock
        self._delay_ns = self._now_ns() - stamp_ns
        self._stamps.append(stamp_ns)

    def patience_s(self, stamp_ns: int) -> float:
        """How long to wait for a newer image before the one that came last, of this stamp, is begun; 0: begin."""
        stamps = list(self._stamps)
        if len(stamps) < 3 or stamps[-1] != stamp_ns:
            return 0.0
        period_ns = statistics.median(b - a for a, b in itertools.pairwise(stamps))
        age_ns = self._now_ns() - stamp_ns
        if not 0 <= self._delay_ns <= period_ns < age_ns:
            return 0.0
        due_ns = stamp_ns + period_ns + self._delay_ns + period_ns / 2
        return max(0.0, due_ns - self._now_ns()) * 1e-9
