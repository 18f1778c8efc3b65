"""What following costs against searching, and the courses of objects as a page."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pasr_perception.data.records import PublishedStatus, Truth
from pasr_perception.evaluation.over_time import Answer, Moment, Point, evaluate
from pasr_perception.evaluation.track_report import (
    drawn,
    render,
    report_json,
    span,
    step_costs,
    ticks,
    write_track_report,
)
from pasr_perception.geometry.se3 import make_T


def status(name: str = "pasr_node: pipeline", **values: float) -> PublishedStatus:
    keys = {k.replace("ms_", "latency_ms/").replace("n_", "count/"): str(v) for k, v in values.items()}
    return PublishedStatus(0, name, 0, "", keys)


COSTS = step_costs(
    [
        status(ms_warm=200, ms_search=800, n_warm=1, n_glance=3, n_search=2),
        status(ms_warm=100, ms_search=0, n_warm=1, n_glance=5, n_search=0),
        status("pasr_node: input", ms_warm=1e6, n_warm=1),
    ]
)


def test_a_followed_frame_is_a_look_or_a_glance():
    assert (COSTS.looks, COSTS.glances, COSTS.searches) == (2, 8, 2)
    assert COSTS.look_s == pytest.approx(0.15)
    assert COSTS.followed_s == pytest.approx(0.03)
    assert COSTS.search_s == pytest.approx(0.4)
    assert COSTS.speedup == pytest.approx(0.4 / 0.03)


def test_without_looks_there_is_no_speed_up():
    assert step_costs([status(ms_warm=0, ms_search=10, n_warm=0, n_search=1)]).speedup is None


def test_a_course_is_drawn_as_runs_of_one_kind():
    course = [
        Point(0.0, 1.0),
        Point(1.0, 1.0, "t", "mug", rotation=np.radians(30)),
        Point(2.0, 1.0, "t", "mug", rotation=np.radians(90)),
        Point(3.0, 1.0, "t", "can"),
        Point(4.0, 0.0),
    ]
    picture = drawn("a", "mug", course, 4.0)
    assert [kind for _, _, kind in picture.bars] == ["missing", "right", "wrong", "hidden"]
    x, width, _ = picture.bars[1]
    assert (x, width) == pytest.approx((250.0, 500.0))
    assert picture.rotation == "250.0,30.0 500.0,0.0"
    assert picture.tracks == ("t",)


def test_the_axis_ends_with_the_last_frame_and_has_round_numbers():
    courses = [[Point(0.0, 1.0), Point(0.2, 1.0)], [Point(0.4, 1.0), Point(0.6, 1.0)]]
    assert span(courses) == pytest.approx(0.8)
    assert span([]) == 1.0
    assert [label for _, label in ticks(60.0)] == [f"{t} s" for t in range(0, 60, 10)]
    assert ticks(60.0)[1][0] == pytest.approx(1000 / 6)


def test_report_and_page_are_written(tmp_path):
    T = make_T(np.eye(3), np.array([0, 0, 1.0]))
    moment = Moment(0, (Truth("a", "mug", T, size=np.ones(3)),), (Answer("t", "mug", T, T[:3, 3]),))
    numbers, courses = evaluate([moment], {})
    about = {"played": "bag"}
    text = report_json(numbers, COSTS, {"overhead_ms_p50": 1.0, "overhead_ms_p95": 2.0}, about)
    write_track_report(tmp_path, text, render(numbers, COSTS, [drawn("a<b>", "mug", [Point(0, 1)], 1)], 1.0, about))
    report = json.loads((tmp_path / "report.json").read_text())
    assert courses == {}
    assert report["unknown_confirmed"] == 1  # no facts of its mesh: the library does not hold it
    assert report["node_overhead_ms"] == {"p50": 1.0, "p95": 2.0}
    assert report["track_speedup_vs_search"] == pytest.approx(13.33, abs=0.01)
    page = (tmp_path / "index.html").read_text()
    assert "a&lt;b&gt;" in page
    assert "13.3 times cheaper" in page
