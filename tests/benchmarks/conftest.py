"""What the benchmarks share. They run only when asked for (`pytest tests/benchmarks -m benchmark`), on what `pasr bench` takes.

PASR_BENCH_LIBRARY and PASR_BENCH_BAG name another library and other photos than the demo's.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pasr_perception.benchmark.plan import QUICK, BenchPlan, Subject
from pasr_perception.cli.bench import subject_of

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the benchmarks out unless -m names them, or the whole suite would take an hour."""
    if "benchmark" in (config.option.markexpr or ""):
        return
    mine = [item for item in items if HERE in item.path.parents]
    if mine:
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if HERE not in item.path.parents]


@pytest.fixture(scope="session")
def plan() -> BenchPlan:
    return QUICK


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On the disk of the checkout, where the demo's library is: copies of it are hard links."""
    return Path("out/bench")


@pytest.fixture(scope="session")
def subject(plan: BenchPlan, work: Path) -> Subject:
    def named(variable: str) -> Path | None:
        return Path(os.environ[variable]) if os.environ.get(variable) else None

    return subject_of(named("PASR_BENCH_LIBRARY"), named("PASR_BENCH_BAG"), None, plan, work)
