"""Loops on all cores: every piece once, errors told, and no thread waiting for one that waits for it."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from pasr_perception.kernels.cores import each_on_all_cores, on_all_cores


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_every_piece_is_called_once(threads: int, count: int) -> None:
    done: list[int] = []
    on_all_cores(done.append, count)
    assert sorted(done) == list(range(count))


def test_what_pieces_return_comes_in_their_order(threads: int) -> None:
    def slower_first(number: int) -> int:
        time.sleep(0.01 / (1 + number))
        return number * number

    assert each_on_all_cores(slower_first, 6) == [0, 1, 4, 9, 16, 25]
    assert each_on_all_cores(slower_first, 0) == []


def test_as_many_threads_as_torch_may_use(threads: int) -> None:
    by: set[int] = set()

    def slow(number: int) -> None:
        by.add(threading.get_ident())
        time.sleep(0.02)

    on_all_cores(slow, 6)
    assert 1 <= len(by) <= threads
    assert (len(by) > 1) == (threads > 1)


def test_errors_are_the_callers(threads: int) -> None:
    def bad(number: int) -> None:
        time.sleep(0.001)
        if number % 3 == 2:
            raise ValueError("no such piece")

    with pytest.raises(ValueError, match="no such piece"):
        on_all_cores(bad, 9)


def test_loops_may_nest(threads: int) -> None:
    done: list[tuple[int, int]] = []

    def outer(number: int) -> None:
        on_all_cores(lambda inner: done.append((number, inner)), 4)

    on_all_cores(outer, 8)
    assert sorted(done) == [(i, j) for i in range(8) for j in range(4)]


def _in_a_child(answer: multiprocessing.SimpleQueue[int]) -> None:
    done: list[int] = []
    on_all_cores(done.append, 20)
    answer.put(len(done))


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(threads: int) -> None:
    on_all_cores(lambda number: None, 20)
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    child = context.Process(target=_in_a_child, args=(answer,))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert answer.get() == 20
