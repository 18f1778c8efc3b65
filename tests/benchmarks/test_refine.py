"""Refinement: the configured method against the published one."""

from __future__ import annotations

import pytest
from rich.console import Console

from pasr_perception.benchmark.plan import BenchPlan, Subject
from pasr_perception.benchmark.queries import evenly
from pasr_perception.benchmark.refining import compare_refinement
from pasr_perception.benchmark.report import figures_table

pytestmark = pytest.mark.benchmark


def test_refinement_is_no_worse_than_fifty_steps_of_adamw(subject: Subject, plan: BenchPlan) -> None:
    found = compare_refinement(subject.pipeline(), evenly(subject.queries, plan.refine_queries))
    Console().print(figures_table("refinement, configured / AdamW", vars(found)))
    assert found.loss_ratio.value is not None
    assert found.error_ratio.value is not None
    assert found.loss_ratio.low is not None
    assert found.error_ratio.low is not None
    assert found.loss_ratio.low <= 1  # the interval reaches down to "as good as"
    assert found.error_ratio.low <= 1
