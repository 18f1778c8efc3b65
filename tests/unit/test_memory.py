"""Work in parts when memory runs out: nothing is lost or done twice, and it recovers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pasr_perception.memory import PartwiseWork, merged
from pasr_perception.types import Detection, FrameResult, Hypothesis, ObjectEstimate, StageTimings


class Device:
    """Room for so many items at once."""

    def __init__(self, room: int, error: type[Exception] = torch.cuda.OutOfMemoryError) -> None:
        self.room, self.error = room, error
        self.calls: list[int] = []

    def work(self, items: Sequence[int]) -> list[int]:
        self.calls.append(len(items))
        if len(items) > self.room:
            raise self.error("CUDA out of memory. Tried to allocate 2 GiB\nand more")
        return [10 * i for i in items]


def test_everything_at_once_while_it_fits() -> None:
    device = Device(8)
    assert PartwiseWork().run(device.work, range(8)) == [[10 * i for i in range(8)]]
    assert PartwiseWork().run(device.work, []) == [[]]
    assert device.calls == [8, 0]


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, MemoryError])
def test_halves_until_it_fits_then_goes_on_in_that_size(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    device, parts = Device(3, error), PartwiseWork()
    with caplog.at_level(logging.WARNING):
        results = parts.run(device.work, range(9))
    assert [i for part in results for i in part] == [10 * i for i in range(9)]
    assert device.calls == [9, 5, 3, 3, 3]
    assert parts.limit == 3
    assert "no memory for 9 objects at once, going on with 5 (CUDA out of memory. Tried" in caplog.text
    assert "and more" not in caplog.text
    device.calls.clear()
    parts.run(device.work, range(6))
    assert device.calls == [3, 3]


def test_it_tries_larger_parts_after_a_while() -> None:
    device, parts = Device(1), PartwiseWork(patience=2)
    parts.run(device.work, range(4))
    device.room = 4
    device.calls.clear()
    for _ in range(6):
        parts.run(device.work, range(4))
    assert device.calls == [1] * 8 + [2] * 4 + [2, 2] + [4]
    assert parts.limit is None


def test_one_item_that_never_fits_is_an_error() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError, match="Tried to allocate"):
        PartwiseWork().run(Device(0).work, range(4))


def test_answers_of_parts_become_one() -> None:
    def part(name: str, seconds: float) -> FrameResult:
        detection = Detection(np.array([0.0, 0, 10, 10]), id=name)
        estimate = ObjectEstimate(detection, (Hypothesis("mug", "cup", 0.5, 0.5, np.eye(4)),))
        return FrameResult((estimate,), StageTimings(encode=seconds, lift=0.5), ((detection, f"not {name}"),))

    whole = merged([part("a", 1.0), part("b", 2.0)])
    assert [o.detection.id for o in whole.objects] == ["a", "b"]
    assert (whole.timings.encode, whole.timings.lift, whole.timings.crop) == (3.0, 1.0, 0.0)
    assert [reason for _, reason in whole.rejected] == ["not a", "not b"]
