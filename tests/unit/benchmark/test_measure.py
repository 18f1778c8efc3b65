"""Measuring: what is called how often, in which order, and what memory readings are."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from pasr_perception.benchmark import measure
from pasr_perception.benchmark.machine import CPU_FLAGS, machine_facts


def test_seconds_is_the_mean_of_as_many_calls_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.02, 0.04, 0.06])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    calls: list[int] = []
    assert measure.seconds(lambda: calls.append(0), at_least=0.05) == pytest.approx(0.02)
    assert len(calls) == 3


def test_interleaved_takes_turns_and_hands_on_the_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(call, at_least=0.0):
        call()
        return 1.0

    monkeypatch.setattr(measure, "seconds", once)
    seen: list[tuple[str, int]] = []
    times = measure.interleaved({n: lambda i, n=n: seen.append((n, i)) for n in "ab"}, repeats=2)
    assert seen == [("a", 0), ("b", 0), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]  # the first two warm up
    assert times == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    with pytest.raises(ValueError, match="at least 1"):
        measure.interleaved({}, repeats=0)


TOUCH = """
import numpy as np
from pasr_perception.benchmark.measure import own_memory_mb, peak_memory_mb
before = peak_memory_mb()
block = np.ones(25_000_000)  # 200 MB
print(before, peak_memory_mb(), own_memory_mb() or -1)
"""


def test_peak_memory_is_that_of_the_program_and_not_of_its_parent() -> None:
    ballast = np.ones(50_000_000)  # 400 MB that a new process must not be charged with
    done = subprocess.run([sys.executable, "-c", TOUCH], capture_output=True, text=True, check=True)
    before, after, own = map(float, done.stdout.split())
    assert 190 <= after - before <= 260
    assert before < ballast.nbytes / 1e6 + 200
    assert own == -1 or 200 <= own <= after


def test_machine_facts_name_this_machine() -> None:
    facts = machine_facts(torch.device("cpu"))
    assert facts.cores >= 1
    assert set(facts.flags) <= set(CPU_FLAGS)
    assert facts.torch == str(torch.__version__)
    assert facts.threads == torch.get_num_threads()
    assert facts.gpu == ""
