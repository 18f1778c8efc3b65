"""What `pasr track` shows: the numbers over time, what following costs against searching, and every object's course as a page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pasr_perception.data.bagio import read_frames, read_published, read_statuses
from pasr_perception.data.records import PublishedStatus
from pasr_perception.evaluation.over_time import SEEN, Moment, OverTime, Point, evaluate, recorded
from pasr_perception.evaluation.page import page_template
from pasr_perception.evaluation.results import over_time_rows
from pasr_perception.evaluation.truth import mesh_facts, published_by_stamp
from pasr_perception.library.files import write_atomically
from pasr_perception.library.store import MeshLibrary

TEMPLATE = "track.html.j2"
PIPELINE_STATUS = ": pipeline"
WIDTH, ROTATION_HEIGHT = 1000.0, 60.0  # of the plots, in the page's pixels
MAX_ROTATION = 60.0  # degrees, at the plots' upper edge
STEPS, MOST_TICKS = (0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600), 8  # of the time axis, seconds
COLOURS = {"right": "#3aa657", "wrong": "#d64545", "missing": "#e3b23c", "hidden": "#d5dbe1"}


@dataclass(frozen=True)
class StepCosts:
    """Seconds per object, over all frames of a run; None where nothing was counted."""

    followed_s: float | None  # one frame of one followed object: all looks over all looks and glances
    look_s: float | None
    search_s: float | None  # one search of the whole library for one object
    looks: int
    glances: int
    searches: int

    @property
    def speedup(self) -> float | None:
        """How many times a followed object's frame is cheaper than a search."""
        return self.search_s / self.followed_s if self.search_s and self.followed_s else None


@dataclass(frozen=True)
class Course:
    """One true object over time, drawn."""

    name: str
    mesh_id: str
    tracks: tuple[str, ...]
    bars: tuple[tuple[float, float, str], ...]  # x, width, kind
    rotation: str  # points of a polyline of the rotation error


def step_costs(statuses: Iterable[PublishedStatus]) -> StepCosts:
    """From the node's per-frame diagnostics."""
    names = ("latency_ms/warm", "latency_ms/search", "count/warm", "count/glance", "count/search")
    sums = dict.fromkeys(names, 0.0)
    for status in statuses:
        if status.name.endswith(PIPELINE_STATUS):
            for name in names:
                sums[name] += float(status.values.get(name, 0.0))
    warm_s, search_s = sums["latency_ms/warm"] / 1e3, sums["latency_ms/search"] / 1e3
    looks, glances, searches = (int(sums[f"count/{name}"]) for name in ("warm", "glance", "search"))
    return StepCosts(
        followed_s=warm_s / (looks + glances) if looks else None,
        look_s=warm_s / looks if looks else None,
        search_s=search_s / searches if searches else None,
        looks=looks,
        glances=glances,
        searches=searches,
    )


def evaluate_tracks(
    played: Path, recorded_bag: Path, library: MeshLibrary, accept: float
) -> tuple[OverTime, dict[str, list[Point]], dict[str, str]]:
    """The numbers, every true object's course, and its mesh; frames that were not answered have no answers.

    Raises BagError for a bag that cannot be read.
    """
    answers = published_by_stamp(list(read_published(recorded_bag)))
    facts = mesh_facts(library)
    moments: list[Moment] = []
    names: dict[str, str] = {}
    for frame in read_frames(played):
        names |= {truth.id: truth.mesh_id for truth in frame.truths}
        answer = answers.get(frame.frame.stamp_ns)
        if answer is not None:
            moments.append(recorded(frame, answer, accept))
    numbers, courses = evaluate(moments, facts)
    return numbers, courses, names


def costs_of(recorded_bag: Path) -> StepCosts:
    """What following and searching took in a recorded run."""
    return step_costs(read_statuses(recorded_bag))


def report_json(numbers: OverTime, costs: StepCosts, overhead: Mapping[str, float], about: Mapping[str, object]) -> str:
    """report.json: all numbers over time, the speed-up, the node's overhead."""
    report = {
        **dataclasses.asdict(numbers),
        "track_speedup_vs_search": costs.speedup,
        "look_speedup_vs_search": costs.search_s / costs.look_s if costs.search_s and costs.look_s else None,
        "step_costs": dataclasses.asdict(costs),
        "node_overhead_ms": {p: overhead[f"overhead_ms_{p}"] for p in ("p50", "p95")} if overhead else None,
        "about": about,
    }
    return json.dumps(report, indent=2, allow_nan=False) + "\n"


def span(courses: Iterable[Sequence[Point]]) -> float:
    """Seconds from the first frame's beginning to the end of the last one's."""
    stamps = sorted({point.seconds for course in courses for point in course})
    if len(stamps) < 2:
        return 1.0
    return stamps[-1] + float(np.median(np.diff(stamps)))


def ticks(seconds: float) -> list[tuple[float, str]]:
    """Where on the time axis what is written: about eight round numbers of seconds."""
    step = next((s for s in STEPS if seconds / s <= MOST_TICKS), STEPS[-1])
    return [(t * WIDTH / max(seconds, 1e-9), f"{t:g} s") for t in np.arange(0, seconds, step)]


def drawn(name: str, mesh_id: str, course: Sequence[Point], seconds: float) -> Course:
    """A course of so many seconds as bars of what was answered, and a line of how far the rotation was off."""
    scale = WIDTH / max(seconds, 1e-9)
    step = float(np.median(np.diff([p.seconds for p in course]))) if len(course) > 1 else seconds
    bars: list[tuple[float, float, str]] = []
    for point in course:
        x, kind = point.seconds * scale, _kind(point, mesh_id)
        if bars and bars[-1][2] == kind and x - sum(bars[-1][:2]) < 0.5 * step * scale:
            bars[-1] = (bars[-1][0], x + step * scale - bars[-1][0], kind)
        else:
            bars.append((x, step * scale, kind))
    line = [
        f"{p.seconds * scale:.1f},{ROTATION_HEIGHT * (1 - min(np.degrees(p.rotation) / MAX_ROTATION, 1)):.1f}"
        for p in course
        if np.isfinite(p.rotation)
    ]
    tracks = tuple(dict.fromkeys(p.track for p in course if p.track))
    return Course(name, mesh_id, tracks, tuple(bars), " ".join(line))


def _kind(point: Point, mesh_id: str) -> str:
    if not point.track:
        return "missing" if point.visible >= SEEN else "hidden"
    return "right" if point.mesh_id == mesh_id else "wrong"


def render(
    numbers: OverTime, costs: StepCosts, courses: Sequence[Course], seconds: float, about: Mapping[str, object]
) -> str:
    """The page as HTML text; courses are drawn over so many seconds."""
    return page_template(TEMPLATE).render(
        rows=over_time_rows(numbers),
        costs=costs,
        courses=courses,
        ticks=ticks(seconds),
        about=about,
        colours=COLOURS,
        width=WIDTH,
        height=ROTATION_HEIGHT,
        most=MAX_ROTATION,
    )


def write_track_report(out: Path, report: str, page: str) -> None:
    """Write `out`/report.json and `out`/index.html."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "report.json", lambda path: path.write_text(report, encoding="utf-8"))
    write_atomically(out / "index.html", lambda path: path.write_text(page, encoding="utf-8"))
