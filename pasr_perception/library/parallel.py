"""Many items through a pool of threads, results in order, without results piling up behind a slow item."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

AHEAD_PER_WORKER = 2  # items begun beyond the one that is waited for: finished ones take memory
MAX_WORKERS = 8

Item = TypeVar("Item")
Made = TypeVar("Made")


@contextlib.contextmanager
def made_in_order(
    make: Callable[[Item], Made], items: Sequence[Item], workers: int = 0
) -> Iterator[Iterator[tuple[Item, Future[Made]]]]:
    """Each item with what `make` makes of it; leaving the context cancels what was not begun.

    One thread per core (`workers` other than 0: so many), each with torch on that core alone: two-thread operators wait for
    each other most of the time.
    """
    threads = torch.get_num_threads()
    count = workers or min(os.cpu_count() or 1, MAX_WORKERS)
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(max(threads // count, 1),))
    try:
        yield _submitted(pool, make, items, AHEAD_PER_WORKER * count)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _submitted(
    pool: ThreadPoolExecutor, make: Callable[[Item], Made], items: Sequence[Item], most: int
) -> Iterator[tuple[Item, Future[Made]]]:
    ahead: deque[tuple[Item, Future[Made]]] = deque()
    for item in items:
        ahead.append((item, pool.submit(make, item)))
        if len(ahead) > most:
            yield ahead.popleft()
    while ahead:
        yield ahead.popleft()
