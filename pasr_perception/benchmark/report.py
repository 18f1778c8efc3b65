"""What a run comes to: JSON with the headline figures at its top, and the tables that are printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from pasr_perception.benchmark.figures import Figure
from pasr_perception.benchmark.machine import Machine
from pasr_perception.benchmark.stages import StageRow

SIGNIFICANT = 5  # digits of numbers in the JSON


@dataclass(frozen=True)
class Headline:
    """The figures a run is judged by. docs/performance.md says what each of them means."""

    coarse_speedup_vs_render: Figure
    coarse_speedup_vs_pytorch3d: Figure
    coarse_speedup_vs_exact: Figure
    coarse_speedup_vs_dense: Figure
    coarse_mesh_top1_agreement: Figure
    coarse_pose_top5_agreement: Figure
    coarse_spearman: Figure
    coarse_so3_over_upright: Figure
    bytes_per_mesh: Figure
    disk_bytes_per_mesh: Figure
    cost_n1000_over_n10: Figure
    after_encoder_over_encoder_n1000: Figure
    refine_speedup_vs_adamw: Figure
    refine_loss_ratio_vs_adamw: Figure
    refine_error_ratio_vs_adamw: Figure
    open_seconds_n10000: Figure
    peak_memory_mb_n10000: Figure


@dataclass(frozen=True)
class MeshCost:
    """Coarse search of one crop, per mesh, by one way of doing it."""

    way: str  # render, pytorch3d, exact, dense, or search (this project's own, its share of one mesh)
    pose_set: str
    meshes: int  # in the library; the baselines cost the same per mesh at any size
    seconds: Figure
    bytes_per_mesh: int | None  # kept in memory for it


@dataclass(frozen=True)
class About:
    """What the run was made on."""

    library: str
    meshes: int
    pose_sets: tuple[str, ...]
    encoder: str
    dim: int
    grid: int
    poses: int  # of the first mesh, turns of the crop included
    points: int
    queries: str  # where the photos come from
    query_count: int
    quick: bool
    seed: int
    seconds: float  # the whole run


@dataclass(frozen=True)
class BenchReport:
    """One run of `pasr bench`."""

    headline: Headline
    stages: tuple[StageRow, ...]
    mesh_costs: tuple[MeshCost, ...]
    not_measured: tuple[tuple[str, str], ...]  # (stage or way, why)
    machine: Machine
    about: About

    def to_json(self) -> dict[str, Any]:
        """Plain data: `<figure>` and `<figure>_spread` ([low, high]) at the top, everything with notes below."""
        named = {f.name: getattr(self.headline, f.name) for f in dataclasses.fields(Headline)}
        top: dict[str, Any] = {}
        for name, figure in named.items():
            top[name] = figure.value
            top[f"{name}_spread"] = None if figure.value is None else [figure.low, figure.high]
        rest = {
            "figures": {name: vars(figure) for name, figure in named.items()},
            "stages": [_stage_row(row) for row in self.stages],
            "mesh_costs": [dataclasses.asdict(cost) for cost in self.mesh_costs],
            "not_measured": dict(self.not_measured),
            "machine": dataclasses.asdict(self.machine),
            "about": dataclasses.asdict(self.about),
        }
        rounded: dict[str, Any] = _rounded(top | rest)
        return rounded


def _stage_row(row: StageRow) -> dict[str, Any]:
    plain = {f.name: getattr(row, f.name) for f in dataclasses.fields(row) if f.name != "stages"}
    figures = {key: vars(value) if isinstance(value, Figure) else value for key, value in plain.items()}
    return figures | {"stages": {s.stage: vars(s.seconds) for s in row.stages}}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return float(f"{value:.{SIGNIFICANT}g}") if isinstance(value, float) else value


def headline_table(report: BenchReport) -> Table:
    """The figures with their spread."""
    figures = {f.name: getattr(report.headline, f.name) for f in dataclasses.fields(Headline)}
    return figures_table(f"{report.machine.cpu}, {report.machine.cores} cores", figures)


def figures_table(title: str, figures: Mapping[str, Figure]) -> Table:
    """Named figures with their spread."""
    table = Table("figure", "value", "spread", "what it is", title=title)
    for name, figure in figures.items():
        shown = "-" if figure.value is None else f"{_plain(figure.value)} {figure.unit}".strip()
        spread = "" if figure.low is None or figure.high is None else f"{_plain(figure.low)} to {_plain(figure.high)}"
        table.add_row(name, shown, spread, figure.note)
    return table


def stage_table(report: BenchReport) -> Table:
    """Milliseconds of every stage by library size and crops."""
    stages = list(dict.fromkeys(s.stage for row in report.stages for s in row.stages))
    table = Table("meshes", "crops", *stages, "total", title="milliseconds per frame, median")
    for row in report.stages:
        by_name = {s.stage: s.seconds for s in row.stages}
        cells = [_milliseconds(by_name.get(stage)) for stage in stages]
        copies = f" ({row.real} real)" if row.real < row.meshes else ""
        table.add_row(f"{row.meshes}{copies}", str(row.crops), *cells, _milliseconds(row.total))
    return table


def _milliseconds(figure: Figure | None) -> str:
    return "-" if figure is None or figure.value is None else f"{figure.value * 1e3:.3g}"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
