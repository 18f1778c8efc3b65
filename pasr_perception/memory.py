"""When the device's memory runs out: the same work in smaller parts, and in larger ones again once it goes well."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from pasr_perception.types import FrameResult, StageTimings

Item = TypeVar("Item")
Result = TypeVar("Result")

OUT_OF_MEMORY = (torch.cuda.OutOfMemoryError, MemoryError)
PATIENCE = 50  # calls that have to go well before larger parts are tried again

logger = logging.getLogger(__name__)


class PartwiseWork:
    """Does work on lists of items at once while memory lasts, in halves of halves where it does not.

    The size of a part that fitted is kept for the next call; after `patience` calls without trouble it is doubled.
    """

    def __init__(self, patience: int = PATIENCE) -> None:
        self._patience = patience
        self._since_trouble = 0
        self.limit: int | None = None  # items per part; None: all at once

    def run(self, work: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> list[Result]:
        """The results of `work` over `items`, part by part in their order; one call even if there are none.

        Raises what `work` raises, and OutOfMemoryError if even one item alone does not fit.
        """
        self._recover(len(items))
        results: list[Result] = []
        done = 0
        while done < len(items) or not results:
            part = items[done : done + (self.limit or len(items))]
            try:
                results.append(work(part))
            except OUT_OF_MEMORY as error:
                if len(part) <= 1:
                    raise
                problem = str(error).partition("\n")[0]
            else:
                done += len(part)
                continue
            self._shrink(len(part), problem)  # outside of the handler: the failed call's tensors are free by now
        return results

    def _shrink(self, size: int, problem: str) -> None:
        self.limit, self._since_trouble = (size + 1) // 2, 0
        logger.warning("no memory for %d objects at once, going on with %d (%s)", size, self.limit, problem)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _recover(self, wanted: int) -> None:
        if self.limit is None:
            return
        self._since_trouble += 1
        if self._since_trouble > self._patience:
            larger = 2 * self.limit
            self.limit, self._since_trouble = (None if larger >= wanted else larger), 0
            logger.info("trying %s objects at once again", self.limit or "all")


def merged(results: Sequence[FrameResult]) -> FrameResult:
    """One answer of a frame out of those of its parts, in their order."""
    if len(results) == 1:
        return results[0]
    timings = sum((r.timings for r in results), StageTimings())
    objects = tuple(o for r in results for o in r.objects)
    return FrameResult(objects, timings, tuple(item for r in results for item in r.rejected))
