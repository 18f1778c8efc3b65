"""Coarse search: cost per mesh against the baselines, and agreement with exhaustive search."""

from __future__ import annotations

import pytest
from rich.console import Console

from pasr_perception.benchmark.plan import BenchPlan, Subject
from pasr_perception.benchmark.queries import encode, evenly
from pasr_perception.benchmark.report import figures_table
from pasr_perception.benchmark.search import bank_of
from pasr_perception.benchmark.searching import compare_results, speedups, time_coarse

pytestmark = pytest.mark.benchmark


def test_cost_per_mesh(subject: Subject, plan: BenchPlan) -> None:
    size = len(subject.library)
    bank = bank_of(subject.library, subject.encoder, subject.config.library.bank)
    pipeline = subject.pipeline()
    encoded = encode(pipeline, evenly(subject.queries, plan.coarse_repeats))
    times = time_coarse({size: pipeline}, bank, encoded, plan.coarse_repeats)  # refuses ways that do not agree
    faster = speedups(times, size)
    Console().print(figures_table(f"times faster per mesh, {size} real meshes", faster))
    assert set(times.baselines) >= {"render", "exact", "dense"}


def test_agreement_with_exhaustive_search(subject: Subject, plan: BenchPlan) -> None:
    bank = bank_of(subject.library, subject.encoder, subject.config.library.bank)
    pipeline = subject.pipeline()
    found = compare_results(pipeline, bank, encode(pipeline, evenly(subject.queries, plan.queries)))
    Console().print(figures_table("agreement with exhaustive search", vars(found)))
    assert found.mesh_top1.value is not None
    assert found.pose_top5.value is not None
    assert found.mesh_top1.value >= 0.99
    assert found.pose_top5.value >= 0.99
