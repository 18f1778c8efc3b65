"""Everything, as `pasr bench --quick` does it: stage times over library sizes, memory, opening."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from pasr_perception.benchmark.plan import BenchPlan, Subject
from pasr_perception.benchmark.report import headline_table, stage_table
from pasr_perception.benchmark.run import run

pytestmark = pytest.mark.benchmark


def test_a_whole_run_measures_every_size(subject: Subject, plan: BenchPlan, work: Path) -> None:
    report = run(subject, plan, work)
    Console().print(stage_table(report), headline_table(report))
    assert {row.meshes for row in report.stages} == set(plan.sizes)
    kept = report.headline.bytes_per_mesh.value
    assert kept is not None
    assert kept <= 1e6
