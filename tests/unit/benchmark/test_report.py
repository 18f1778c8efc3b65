"""The report: every figure that is promised is in the JSON with its spread, and the plot shows what was measured."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import cv2
import pytest
import torch

from pasr_perception.benchmark.figures import Figure, missing
from pasr_perception.benchmark.machine import machine_facts
from pasr_perception.benchmark.plot import scaling_plot
from pasr_perception.benchmark.report import (
    About,
    BenchReport,
    Headline,
    MeshCost,
    headline_table,
    stage_table,
)
from pasr_perception.benchmark.stages import Samples, stage_row
from pasr_perception.types import StageTimings

PROMISED = (
    "coarse_speedup_vs_render",
    "coarse_speedup_vs_pytorch3d",
    "coarse_mesh_top1_agreement",
    "coarse_pose_top5_agreement",
    "bytes_per_mesh",
    "cost_n1000_over_n10",
    "after_encoder_over_encoder_n1000",
    "refine_speedup_vs_adamw",
    "refine_loss_ratio_vs_adamw",
    "refine_error_ratio_vs_adamw",
    "open_seconds_n10000",
    "peak_memory_mb_n10000",
)
FAST = StageTimings(crop=0.001, encode=0.1, coarse=0.02, refine=0.02, rank=0.002, lift=0.008)
SLOW = StageTimings(crop=0.001, encode=0.1, coarse=0.04, refine=0.05, rank=0.002, lift=0.008)


def report() -> BenchReport:
    figures = {f.name: Figure(2.0, 1.0, 3.0000001, "x", "note") for f in dataclasses.fields(Headline)}
    figures["coarse_speedup_vs_pytorch3d"] = missing("x", "not importable")
    rows = tuple(stage_row(Samples((FAST, SLOW, SLOW), (0.003,)), n, 28, crops) for n in (10, 100) for crops in (1, 8))
    about = About("lib", 28, ("so3",), "encoder", 320, 28, 2000, 4096, "a bag", 92, True, 0, 12.5)
    cost = MeshCost("render", "so3", 10, Figure(0.5, 0.4, 0.6, "s", "n"), 1000)
    return BenchReport(
        Headline(**figures), rows, (cost,), (("track", "none"),), machine_facts(torch.device("cpu")), about
    )


def test_json_has_every_promised_figure_with_its_spread_on_top() -> None:
    plain = json.loads(json.dumps(report().to_json(), allow_nan=False))
    for name in PROMISED:
        assert name in plain
        assert f"{name}_spread" in plain
    assert plain["coarse_speedup_vs_render"] == 2.0
    assert plain["coarse_speedup_vs_render_spread"] == [1.0, 3.0]
    assert plain["coarse_speedup_vs_pytorch3d"] is None
    assert plain["coarse_speedup_vs_pytorch3d_spread"] is None
    assert plain["figures"]["coarse_speedup_vs_pytorch3d"]["note"] == "not importable"
    assert plain["not_measured"] == {"track": "none"}
    assert plain["machine"]["cores"] >= 1
    assert plain["mesh_costs"][0]["seconds"]["high"] == 0.6


def test_stage_rows_take_medians_and_the_share_after_the_encoder() -> None:
    row = stage_row(Samples((FAST, SLOW, SLOW), ()), meshes=100, real=28, crops=1)
    coarse = next(s.seconds for s in row.stages if s.stage == "coarse")
    assert (coarse.value, coarse.low, coarse.high) == (0.04, 0.02, 0.04)
    assert row.total.value == pytest.approx(0.201)
    assert row.after_encoder_over_encoder.value == pytest.approx(1.0)
    assert row.after_encoder_over_encoder.low == pytest.approx(0.5)
    assert [s.stage for s in row.stages] == [f.name for f in dataclasses.fields(StageTimings)]
    assert stage_row(Samples((FAST,), ()), meshes=10, real=28, crops=1).real == 10


def test_publish_is_a_stage_where_it_was_measured() -> None:
    row = stage_row(Samples((FAST, SLOW), (0.003, 0.001)), 10, 10, 1)
    assert row.stages[-1].stage == "publish"
    assert row.stages[-1].seconds.value == 0.002


def test_tables_name_figures_and_copies(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    console = Console(width=250)
    console.print(headline_table(report()))
    console.print(stage_table(report()))
    out = capsys.readouterr().out
    assert "coarse_speedup_vs_render" in out
    assert "1 to 3" in out
    assert "100 (28 real)" in out


def test_plot_draws_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "scaling.png"
    assert scaling_plot(report().stages, path)
    picture = cv2.imread(str(path))
    assert min(picture.shape[:2]) > 300
    assert (picture != 255).any(2).mean() > 0.01


def test_without_matplotlib_there_is_no_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not scaling_plot(report().stages, tmp_path / "scaling.png")
    assert not list(tmp_path.iterdir())
    assert "matplotlib" in caplog.text
