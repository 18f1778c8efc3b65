"""Order, errors, how far work runs ahead, and that leaving early stops it."""

from __future__ import annotations

import threading

import pytest
import torch

from pasr_perception.library.parallel import AHEAD_PER_WORKER, made_in_order


def test_results_come_in_order_with_their_errors() -> None:
    second_done = threading.Event()

    def make(number: int) -> int:
        if number == 0:
            assert second_done.wait(120)
        if number == 1:
            second_done.set()
            raise ValueError("one")
        return number * number

    said: list[int | str] = []
    with made_in_order(make, range(20), workers=2) as results:
        for number, result in results:
            try:
                said.append(result.result())
            except ValueError as error:
                said.append(f"{number}: {error}")
    assert said == [0, "1: one", *(n * n for n in range(2, 20))]


def test_work_does_not_run_far_ahead_and_ends_with_the_context() -> None:
    begun: list[int] = []
    threads = torch.get_num_threads()

    def stop_at_ten() -> None:
        with made_in_order(begun.append, range(1000), workers=2) as results:
            for number, result in results:
                result.result()
                if number == 10:
                    raise KeyError

    with pytest.raises(KeyError):
        stop_at_ten()
    assert len(begun) <= 11 + 2 * AHEAD_PER_WORKER
    assert torch.get_num_threads() == threads


def test_each_worker_has_torch_on_its_share_of_threads() -> None:
    with made_in_order(lambda _: torch.get_num_threads(), range(4), workers=64) as results:
        assert [result.result() for _, result in results] == [1] * 4


def test_nothing_to_do() -> None:
    with made_in_order(str, [], workers=1) as results:
        assert list(results) == []
