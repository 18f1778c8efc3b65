"""A recording with known mistakes must come out as exactly those numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pasr_perception.cli.bag import evaluate_command
from pasr_perception.data.bagio import BagError, BagWriter, write_frames
from pasr_perception.data.records import BagFrame, PublishedStatus, Truth
from pasr_perception.evaluation.report import EvaluationOptions, evaluate_recording, latencies
from pasr_perception.evaluation.results import report_table
from pasr_perception.pipeline import Pipeline

T1, T2, T3 = 1_000_000_000, 2_000_000_000, 3_000_000_000


def frames(scene: SimpleNamespace) -> list[BagFrame]:
    """Three frames of a can, a box, and a ball that no library holds."""
    can, box, ball = scene.pose(-0.15, 0), scene.pose(0.02, 0), scene.pose(0.18, 0.05)
    truths = (Truth("1", "can_red", can), Truth("2", "box", box), Truth("3", "ball", ball))
    return [scene.bag_frame(stamp, truths) for stamp in (T1, T2, T3)]


def recording(scene: SimpleNamespace, path: Path) -> Path:
    """Frame 1: can right, box taken for the slab. 2: can taken for the other can, box right but off. 3: nothing."""
    can, box, ball = scene.pose(-0.15, 0), scene.pose(0.02, 0), scene.pose(0.18, 0.05)
    off = scene.turned(box, 20, (0, 0, 0.04))
    final = {
        T1: [
            ("1", [("can_red", 0.9, can)]),
            ("2", [("slab", 0.8, box), ("box", 0.6, box)]),
            ("3", [("box", 0.3, ball)]),
        ],
        T2: [("1", [("can_blue", 0.7, can)]), ("2", [("box", 0.9, off)])],
    }
    coarse = {
        T1: [("1", [("can_blue", 0.5, can), ("can_red", 0.4, scene.turned(can, 15))])],
        T2: [("2", [("box", 0.6, scene.turned(box, 30, (0, 0, 0.05)))])],
    }
    return scene.write_recording(path, final, coarse)


@pytest.fixture(scope="module")
def result(pipeline: Pipeline, scene: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("evaluation")
    write_frames(folder / "in", frames(scene))
    recording(scene, folder / "out")
    options = EvaluationOptions(given_mesh=True, pictures=2, title="a <b>title</b>")
    report = evaluate_recording(pipeline, folder / "in", folder / "out", folder / "report", options)
    return report, folder / "report"


@pytest.fixture(scope="module")
def numbers(result: tuple[Any, Path]) -> dict[str, Any]:
    return json.loads((result[1] / "report.json").read_text())


def test_counts_and_retrieval(numbers: dict[str, Any]) -> None:
    assert (numbers["frames"], numbers["answered"], numbers["objects"]) == (3, 2, 4)
    assert numbers["mesh_top1"] == 0.5
    assert numbers["mesh_top5"] == 0.75
    assert numbers["category_top1"] == 1.0  # a slab is in the box's category, a blue can in the red one's
    assert numbers["shape_class_top1"] == 0.75  # both cans have one shape
    assert numbers["mesh_top1_before"] == 0.5


def test_pose_errors_before_and_after_over_the_same_right_objects(numbers: dict[str, Any]) -> None:
    rotation, translation = numbers["rotation_error_deg"], numbers["translation_error_m"]
    assert rotation["after"]["count"] == rotation["before"]["count"] == 2
    assert rotation["after"]["median"] == pytest.approx(10, abs=1e-3)  # 0 and 20
    assert rotation["after"]["p90"] == pytest.approx(18, abs=1e-3)
    assert rotation["before"]["median"] == pytest.approx(
        22.5, abs=0.3
    )  # 15 (the can's axis was found, not given) and 30
    assert translation["after"]["median"] == pytest.approx(0.02, abs=1e-6)
    assert translation["before"]["median"] == pytest.approx(0.025, abs=1e-3)
    assert numbers["rotation_error_deg_all"]["after"]["count"] == 4
    assert numbers["adds_10d"]["after"] == 0.25  # of four objects only the exact can


def test_objects_out_of_the_library_are_counted_apart(numbers: dict[str, Any]) -> None:
    outside = numbers["out_of_library"]
    assert outside["objects"] == 2
    assert outside["score"] == {"median": 0.3, "p90": 0.3, "count": 1}
    assert outside["score_in_library"]["median"] == pytest.approx(0.85)


def test_latency_and_confusion(numbers: dict[str, Any]) -> None:
    assert numbers["latency_ms"] == {"crop": {"p50": 1.5, "p95": 1.95}}
    assert numbers["confusion"] == {"can_red": {"can_red": 1, "can_blue": 1}, "box": {"slab": 1, "box": 1}}


def test_baselines_have_the_same_keys(numbers: dict[str, Any]) -> None:
    chance, pooled = numbers["baselines"]["chance"], numbers["baselines"]["pooled"]
    own = {"frames", "answered", "mesh_top1_before", "latency_ms", "baselines", "out_of_library", "confusion", "about"}
    own |= {"over_time"}
    assert chance.keys() == pooled.keys() == numbers.keys() - own
    assert chance["mesh_top1"] == 0.25
    assert chance["mesh_top5"] == 1.0
    assert chance["category_top1"] == 0.5
    assert chance["shape_class_top1"] == pytest.approx((0.5 + 0.25) / 2)
    assert 20 < chance["rotation_error_deg"]["after"]["median"] < 120
    assert pooled["mesh_top1"] == 1.0  # flat colours are what pooled features are good at
    assert pooled["rotation_error_deg"]["before"] == pooled["rotation_error_deg"]["after"]


def test_given_mesh_gives_every_object_a_pose(numbers: dict[str, Any]) -> None:
    given = numbers["given_mesh"]
    assert given["objects"] == given["rotation_error_deg"]["after"]["count"] == 4
    assert given["translation_error_m"]["after"]["median"] < 0.2


def test_page_stands_alone_and_escapes_text(result: tuple[Any, Path]) -> None:
    page = (result[1] / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "a &lt;b&gt;title&lt;/b&gt;" in page
    assert "http" not in page
    assert "taken for" in page
    assert not list(result[1].glob("*.partial"))


def test_sizes_are_needed_to_tell_whom_an_answer_belongs_to(result: tuple[Any, Path]) -> None:
    assert result[0].over_time is None
    assert "Over time" not in (result[1] / "index.html").read_text()


@pytest.mark.parametrize("named", [True, False])
def test_answers_with_lasting_ids_are_judged_over_time(
    pipeline: Pipeline, scene: SimpleNamespace, tmp_path: Path, named: bool
) -> None:
    box, off = scene.pose(0.0, 0), scene.turned(scene.pose(0.0, 0), 3)
    truth = Truth("1", "box", box, size=np.array([0.05, 0.08, 0.12]))
    played = [scene.bag_frame(stamp, (truth,)) for stamp in (T1, T2, T3)]
    if not named:
        played = [replace(f, detections=tuple(replace(d, id="") for d in f.detections)) for f in played]
    write_frames(tmp_path / "in", played)
    name = "1" if named else "0"
    answers = {T1: [(name, [("box", 0.9, box)])], T2: [(name, [("box", 0.8, off)])], T3: [(name, [("box", 0.3, box)])]}
    scene.write_recording(tmp_path / "out", answers, {})
    options = EvaluationOptions(baselines=False, pictures=0)
    report = evaluate_recording(pipeline, tmp_path / "in", tmp_path / "out", tmp_path / "report", options)
    plain = json.loads((tmp_path / "report" / "report.json").read_text())["over_time"]
    if not named:
        assert report.over_time is plain is None
        return
    assert (plain["frames"], plain["identity_switches"], plain["mesh_correct_share"]) == (3, 0, 1.0)
    assert plain["mota"] == pytest.approx(2 / 3)  # a score of 0.3 confirms nothing
    assert plain["jitter_deg"] == pytest.approx(3.0, abs=1e-3)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Over time" in page
    assert "<td>identity switches</td><td>0</td>" in page


def test_table_has_a_column_per_method_and_part(result: tuple[Any, Path]) -> None:
    headers = [str(column.header) for column in report_table(result[0]).columns]
    assert headers == ["", "PASR", "baseline: chance", "baseline: pooled"]


def test_a_recording_without_answers_is_reported_as_such(
    pipeline: Pipeline, scene: SimpleNamespace, tmp_path: Path
) -> None:
    write_frames(tmp_path / "in", frames(scene))
    with BagWriter(tmp_path / "out") as writer:
        writer.declare("/pasr_node/objects", "vision_msgs/msg/Detection3DArray")
    report = evaluate_recording(pipeline, tmp_path / "in", tmp_path / "out", tmp_path / "report")
    assert (report.frames, report.answered, report.method.scores.objects) == (3, 0, 0)
    plain = json.loads((tmp_path / "report" / "report.json").read_text())
    assert plain["mesh_top1"] is None
    assert plain["rotation_error_deg"]["after"] == {"median": None, "p90": None, "count": 0}
    assert "No answered frame" in (tmp_path / "report" / "index.html").read_text()


def test_a_missing_bag_is_named_and_nothing_is_written(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(BagError, match="nowhere"):
        evaluate_recording(pipeline, tmp_path / "in", tmp_path / "nowhere", tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_latencies_read_the_pipelines_status_only() -> None:
    statuses = [
        PublishedStatus(0, "pasr_node: pipeline", 0, "", {"latency_ms/encode": "10", "objects": "3"}),
        PublishedStatus(1, "pasr_node: pipeline", 2, "failed", {"latency_ms/encode": "oops"}),
        PublishedStatus(2, "pasr_node: input", 0, "", {"latency_ms/encode": "1000"}),
        PublishedStatus(3, "pasr_node: pipeline", 0, "", {"latency_ms/encode": "30"}),
    ]
    found = latencies(statuses)
    assert list(found) == ["encode"]
    assert (found["encode"].p50, found["encode"].p95) == (20.0, 29.0)


def test_the_command_prints_the_table_and_where_the_page_is(
    pipeline: Pipeline, scene: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_frames(tmp_path / "in", frames(scene))
    recording(scene, tmp_path / "out")
    monkeypatch.setattr(Pipeline, "open", lambda *_: pipeline)  # this library's encoder cannot be named in a setting
    app = typer.Typer()
    app.command()(evaluate_command)
    bags = [str(tmp_path / "in"), str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*bags, "-l", "lib", "-o", str(tmp_path / "report"), "--no-baselines"])
    assert result.exit_code == 0, result.output
    assert "2 of 3 frames answered" in result.output
    assert str(tmp_path / "report" / "index.html") in result.output
    assert json.loads((tmp_path / "report" / "report.json").read_text())["baselines"] == {}
