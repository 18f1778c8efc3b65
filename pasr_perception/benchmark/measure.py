"""Wall time and memory of this process."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

AT_LEAST_S = (
    0.05  # a shorter call is repeated until this much has passed, so that the clock and one hiccup do not decide
)
MAX_CALLS = 200
STATUS = Path("/proc/self/status")


def seconds(call: Callable[[], object], at_least: float = AT_LEAST_S) -> float:
    """Mean wall time of one call, over as many calls as `at_least` seconds hold (one, if it takes longer)."""
    calls = 0
    began = time.perf_counter()
    while True:
        call()
        _wait_for_device()
        calls += 1
        spent = time.perf_counter() - began
        if spent >= at_least or calls >= MAX_CALLS:
            return spent / calls


def interleaved(
    calls: Mapping[str, Callable[[int], object]], repeats: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds per call of every subject, `repeats` of each, taken in turn: call(i) is given the repeat's number.

    The i-th times of two subjects lie next to each other in time and may be paired.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    if warm_up:
        for call in calls.values():
            call(0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(lambda call=call, i=i: call(i)))  # type: ignore[misc]
    return times


def _wait_for_device() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_memory_mb() -> float:
    """The largest resident set of this program so far, in MB (10^6 bytes); mapped file pages count.

    getrusage alone will not do for a process just started: its peak begins with that of the parent it was forked from.
    """
    own = _status("VmHWM")
    if own is not None:
        return own
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB, on macOS bytes
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def own_memory_mb() -> float | None:
    """What of the resident set belongs to this process alone (not mapped files), in MB; None where /proc is missing."""
    return _status("RssAnon")


def _status(name: str) -> float | None:
    if not STATUS.is_file():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0]) * 1024 / 1e6 if name in lines else None
