"""Node overhead at 720p and 30 Hz, as `pasr overhead` measures it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from pasr_perception.cli.overhead import measure_overhead

pytestmark = [pytest.mark.benchmark, pytest.mark.ros]


def test_the_overhead_is_reported_and_no_image_is_begun_after_its_period(tmp_path: Path) -> None:
    found = measure_overhead(tmp_path, frames=300, hz=30.0, boxes=8, pipeline_ms=20.0)
    print(found)
    assert found["frames"] == 300
    assert found["overhead_ms_p95"] <= 10
    assert found["wait_ms_p95"] <= 1000 / 30
