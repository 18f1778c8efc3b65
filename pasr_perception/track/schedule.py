"""A fixed time budget per frame, spent where it is needed most.

Tracked objects come first, since a look at one is cheap. Searches are ten times dearer: they are paid from a purse into which every
frame puts its share of the budget, so that a search that is worth several frames still comes, but not too often. What does not
fit waits; whoever has waited goes first.
"""

from __future__ import annotations

import time
from collections.abc import Callable

FORGETTING = 0.8  # of what a look or a search is known to cost
PURSE = 2.0  # budgets that may be saved up for searches


class Budget:
    """Clocks one tracker's frames and says what still fits."""

    def __init__(self, seconds: float, search_share: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._seconds, self._share, self._clock = seconds, search_share, clock
        self._cost: dict[str, float] = {}
        self._purse = seconds  # the first frame may search
        self._begin = clock()
        self.spent: dict[str, float] = {}
        self.count: dict[str, int] = {}

    def begin_frame(self) -> None:
        """A new frame: time runs from now."""
        self._begin = self._clock()
        self._purse = min(self._purse + self._share * self._seconds, PURSE * self._seconds)
        self.spent, self.count = {}, {}

    @property
    def elapsed(self) -> float:
        return self._clock() - self._begin

    def fits(self, kind: str) -> bool:
        """Whether one more of this kind fits into what is left of the frame. The first task of a frame always does."""
        if not self.count:
            return True
        return self.elapsed + self._cost.get(kind, 0.0) <= self._seconds

    def affords_search(self, waiting: bool) -> bool:
        """Whether a search fits; while tracked objects are still `waiting` for their look, only out of the purse."""
        cost = self._cost.get("search", 0.0)
        if not waiting:
            return self.fits("search") or (cost > self._seconds and self._purse >= cost)
        return self._purse >= min(cost, PURSE * self._seconds) and self.fits("search")

    def clock(self, kind: str, task: Callable[[], object]) -> object:
        """Run one task and learn what its kind costs."""
        start = self._clock()
        try:
            return task()
        finally:
            took = self._clock() - start
            known = self._cost.get(kind)
            self._cost[kind] = took if known is None else FORGETTING * known + (1 - FORGETTING) * took
            self.spent[kind] = self.spent.get(kind, 0.0) + took
            self.count[kind] = self.count.get(kind, 0) + 1
            if kind == "search":
                self._purse = max(self._purse - took, 0.0)
