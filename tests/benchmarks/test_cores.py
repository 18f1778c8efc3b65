"""What all cores bring over one, stage by stage: frames are asked about with one thread and with all of torch's, in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest
import torch
from rich.console import Console

from pasr_perception.benchmark.figures import Figure, median_figure
from pasr_perception.benchmark.plan import BenchPlan, Subject
from pasr_perception.benchmark.queries import crowd, evenly
from pasr_perception.benchmark.report import figures_table

pytestmark = pytest.mark.benchmark

STAGES = ("tighten", "encode", "coarse", "refine", "lift")
REPEATS = 12


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("crops", [1, 8])
def test_stages_with_one_core_and_with_all(subject: Subject, plan: BenchPlan, crops: int) -> None:
    pipeline, cores = subject.pipeline(), torch.get_num_threads()
    singles = [(query.frame, [query.detection]) for query in evenly(subject.queries, REPEATS)]
    frames = singles if crops == 1 else [crowd(subject.queries, crops)] * REPEATS
    ratios: dict[str, list[float]] = {name: [] for name in STAGES}
    for frame, detections in frames:
        pipeline.detect(frame, detections)  # what a query is the first to read does not count
        with threads(1):
            alone = asdict(pipeline.detect(frame, detections).timings)
        together = asdict(pipeline.detect(frame, detections).timings)
        for name in STAGES:
            ratios[name].append(alone[name] / together[name])
    found: dict[str, Figure] = {
        name: median_figure(times, "x", f"{REPEATS} frames, median and range") for name, times in ratios.items()
    }
    Console().print(figures_table(f"seconds with one core / with {cores}, {crops} crops", found))
    for name in ("coarse", "refine") if cores > 1 else ():
        faster = found[name].value
        assert faster is not None
        assert faster > 1
