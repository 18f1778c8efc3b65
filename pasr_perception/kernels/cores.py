"""Loops over pieces that have nothing to do with each other, on all cores.

Kernels run without Python's lock, so threads that call them run at the same time. numba's own parallel loops are not used: their
threads and torch's would be two crowds on the same cores, and its default layer ends the process where two threads call it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Made = TypeVar("Made")


@lru_cache(maxsize=1)
def _helpers(process: int) -> ThreadPoolExecutor:
    """The threads of a process; one that was forked off has none of its parent's, and gets its own."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix=f"kernels of {process}")


def on_all_cores(piece: Callable[[int], None], count: int) -> None:
    """Call piece(0) to piece(count - 1), in any order, on as many threads as torch may use here; raises what any of them raised.

    Pieces call kernels and write to places of their own. They use no torch operators, which have threads already.
    """
    left = iter(range(count))  # threads share it: taking the next one is a single step under Python's lock

    def work() -> None:
        for number in left:
            piece(number)

    threads = min(torch.get_num_threads(), count)
    helping = [_helpers(os.getpid()).submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        begun = [future for future in helping if not future.cancel()]  # whoever has not begun is not waited for
        errors = [error for future in begun if (error := future.exception()) is not None]
    if errors:
        raise errors[0]


def each_on_all_cores(make: Callable[[int], Made], count: int) -> list[Made]:
    """What make(0) to make(count - 1) return, called as `on_all_cores` calls its pieces."""
    found: dict[int, Made] = {}

    def piece(number: int) -> None:
        found[number] = make(number)

    on_all_cores(piece, count)
    return [found[number] for number in range(count)]
