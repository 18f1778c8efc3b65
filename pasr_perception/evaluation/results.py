"""The evaluation's result: what report.json holds, and the table that is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from pasr_perception.evaluation.metrics import Summary
from pasr_perception.evaluation.over_time import OverTime
from pasr_perception.evaluation.scores import PoseScores, Scores

DIGITS = 6


@dataclass(frozen=True)
class MethodReport:
    """One method's numbers."""

    scores: Scores
    by_appearance: Mapping[str, Scores]  # "known" (coloured meshes), "unknown" (uncoloured ones)
    given_mesh: PoseScores | None = None  # asked for the pose of the true mesh only; None: not evaluated


@dataclass(frozen=True)
class Latency:
    """Of one stage, in milliseconds."""

    p50: float
    p95: float


@dataclass(frozen=True)
class OutOfLibrary:
    """Objects whose mesh the library does not hold: nothing is right for them but a low score."""

    objects: int
    score: Summary  # of the best hypothesis
    score_in_library: Summary  # the same of objects that are in the library, to compare


@dataclass(frozen=True)
class Report:
    """The evaluation of one recorded bag."""

    frames: int  # in the bag that was played
    answered: int  # of them
    method: MethodReport
    mesh_top1_before: float | None  # refinement
    latency_ms: Mapping[str, Latency]
    baselines: Mapping[str, MethodReport]  # "chance", "pooled"
    out_of_library: OutOfLibrary
    confusion: Mapping[str, Mapping[str, int]]  # true mesh -> answered mesh ("" = none) -> how often
    about: Mapping[str, str | int]  # bags, library, encoder, version
    over_time: OverTime | None = None  # of the recorded answers; None: their ids do not last from frame to frame

    def to_json(self) -> dict[str, Any]:
        """Plain data, the layout of report.json: the method's own numbers at the top."""
        plain = {
            "frames": self.frames,
            "answered": self.answered,
            **_method(self.method),
            "mesh_top1_before": self.mesh_top1_before,
            "latency_ms": {stage: dataclasses.asdict(latency) for stage, latency in self.latency_ms.items()},
            "baselines": {name: _method(baseline) for name, baseline in self.baselines.items()},
            "out_of_library": dataclasses.asdict(self.out_of_library),
            "confusion": {true: dict(answers) for true, answers in self.confusion.items()},
            "about": dict(self.about),
            "over_time": None if self.over_time is None else dataclasses.asdict(self.over_time),
        }
        return _rounded(plain)


def _method(method: MethodReport) -> dict[str, Any]:
    return {
        **dataclasses.asdict(method.scores),
        "by_appearance": {name: dataclasses.asdict(scores) for name, scores in method.by_appearance.items()},
        "given_mesh": None if method.given_mesh is None else dataclasses.asdict(method.given_mesh),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


# --- rows shared by the printed table and the page ----------------------------------------------------------------


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _spread(summary: Summary, scale: float = 1.0, digits: int = 1) -> str:
    if summary.median is None or summary.p90 is None:
        return "–"
    return f"{summary.median * scale:.{digits}f} / {summary.p90 * scale:.{digits}f}"


def score_rows(scores: Scores) -> dict[str, str]:
    """Label -> text of one method's numbers; "before → after" where refinement matters."""
    rotation, translation = scores.rotation_error_deg, scores.translation_error_m
    return {
        "objects": str(scores.objects),
        "mesh top-1": share(scores.mesh_top1),
        "mesh top-5": share(scores.mesh_top5),
        "category top-1": share(scores.category_top1),
        "shape class top-1": share(scores.shape_class_top1),
        "rotation error, deg, before (median / p90)": _spread(rotation.before),
        "rotation error, deg, after": _spread(rotation.after),
        "translation error, mm, before (median / p90)": _spread(translation.before, 1000),
        "translation error, mm, after": _spread(translation.after, 1000),
        "right mesh and ADD-S < 10 % of diameter": share(scores.adds_10d.after),
        "right mesh and rotation ADD-S < 5 %": share(scores.adds_rotation_05d.after),
    }


def given_rows(given: PoseScores | None) -> dict[str, str]:
    """The same for poses of a given mesh."""
    if given is None:
        return {}
    return {
        "true mesh given: rotation error, deg, before": _spread(given.rotation_error_deg.before),
        "true mesh given: rotation error, deg, after": _spread(given.rotation_error_deg.after),
        "true mesh given: ADD-S < 10 %": share(given.adds_10d.after),
        "true mesh given: rotation ADD-S < 5 %, before": share(given.adds_rotation_05d.before),
        "true mesh given: rotation ADD-S < 5 %, after": share(given.adds_rotation_05d.after),
    }


def over_time_rows(numbers: OverTime | None) -> dict[str, str]:
    """Label -> text of the numbers over time."""
    if numbers is None:
        return {}
    values = dataclasses.asdict(numbers)
    return {
        label.replace("_", " "): str(value) if isinstance(value, int) else share(value)
        for label, value in values.items()
    }


def columns(report: Report) -> dict[str, dict[str, str]]:
    """Column title -> label -> text: the method, its parts by appearance, the baselines."""
    method = report.method
    found = {"PASR": score_rows(method.scores) | given_rows(method.given_mesh)}
    names = {"known": "coloured meshes", "unknown": "uncoloured meshes"}
    if len(method.by_appearance) > 1:
        found |= {names[name]: score_rows(scores) for name, scores in method.by_appearance.items()}
    for name, baseline in report.baselines.items():
        found[f"baseline: {name}"] = score_rows(baseline.scores) | given_rows(baseline.given_mesh)
    return found


def report_table(report: Report) -> Table:
    """The numbers as a table for the terminal."""
    table = Table(title=f"{report.answered} of {report.frames} frames answered", title_justify="left")
    table.add_column("")
    cells = columns(report)
    for title in cells:
        table.add_column(title, justify="right")
    for label in dict.fromkeys(label for column in cells.values() for label in column):
        table.add_row(label, *(column.get(label, "") for column in cells.values()))
    if report.latency_ms:
        table.add_section()
        for stage, latency in report.latency_ms.items():
            table.add_row(f"latency {stage}, ms (p50 / p95)", f"{latency.p50:.0f} / {latency.p95:.0f}")
    return table
