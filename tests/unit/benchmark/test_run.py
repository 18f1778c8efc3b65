"""A whole run on three small meshes, with the tiny encoder: the report is complete and its exact parts are right."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.benchmark import fresh as fresh_process
from pasr_perception.benchmark import run as bench_run
from pasr_perception.benchmark.fresh import FreshAnswer, FreshRequest, measure
from pasr_perception.benchmark.plan import BenchPlan, Subject
from pasr_perception.benchmark.queries import Query, crowd, encode, evenly, frames_to_ask
from pasr_perception.benchmark.report import BenchReport
from pasr_perception.benchmark.run import run
from pasr_perception.benchmark.searching import compare_results
from pasr_perception.benchmark.stages import sample
from pasr_perception.config import CoarseConfig, PasrConfig, RefineConfig
from pasr_perception.data.records import Truth
from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.library.store import MeshLibrary
from pasr_perception.types import Rivals

CONFIG = PasrConfig(coarse=CoarseConfig(top_k=5, per_mesh=2), refine=RefineConfig(top_k=2))
PLAN = BenchPlan(
    sizes=(2, 3, 5, 7),
    crops=(1, 2),
    repeats=2,
    crowd_repeats=1,
    coarse_repeats=2,
    queries=3,
    refine_queries=2,
    open_repeats=1,
    reposed=2,
)


@pytest.fixture(scope="module")
def queries(bench: Any) -> list[Query]:
    found = []
    for i, (mesh, z) in enumerate((("block", 1.4), ("can", 0.6), ("truck", 5.0))):
        R = look_at(0.5, 0.8 + i, 0.1)
        T = make_T(R, np.array([0.1 * z, 0, z]) - R @ bench.meshes[mesh].bounds.mean(0))
        frame, detection = bench.photograph(mesh, T)
        found.append(Query(frame, detection, Truth(mesh, mesh, T)))
    return found


@pytest.fixture(scope="module")
def subject(bench: Any, library_path: Path, queries: list[Query]) -> Subject:
    library = MeshLibrary.open(library_path)
    return Subject(library, bench.encoder, torch.device("cpu"), CONFIG, queries, "three photos")


def in_this_process(bench: Any, request: FreshRequest) -> FreshAnswer:
    """What the fresh process does, with an encoder that only the tests have."""
    pipeline, opened = measure(request.library, bench.encoder, torch.device("cpu"), request.config, request.frame)
    timings = [pipeline.detect(request.frame, request.detections).timings for _ in range(request.repeats)]
    return dataclasses.replace(opened, timings=tuple(timings))


@pytest.fixture(scope="module")
def report(bench: Any, subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchReport]:
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_run, "in_fresh_process", lambda request: in_this_process(bench, request))
        patch.setattr("pasr_perception.benchmark.measure.AT_LEAST_S", 0.0)
        yield run(subject, PLAN, work)
    assert list(work.iterdir()) == []  # nothing is left behind


def test_every_figure_is_measured(report: BenchReport) -> None:
    without = {name for name, value in report.to_json().items() if value is None}
    assert without <= {"coarse_speedup_vs_pytorch3d", "coarse_speedup_vs_pytorch3d_spread"}
    json.dumps(report.to_json(), allow_nan=False)


def test_all_sizes_and_crops_have_a_row(report: BenchReport) -> None:
    assert [(r.meshes, r.crops, r.real) for r in report.stages] == [
        (n, c, min(n, 3)) for n in PLAN.sizes for c in PLAN.crops
    ]
    assert {cost.way for cost in report.mesh_costs} >= {"render", "exact", "dense", "search"}
    for row in report.stages[
        : -len(PLAN.crops)
    ]:  # the largest is measured in a process that answers frames and no more
        assert "track" in {stage.stage for stage in row.stages}


def test_a_shortlist_of_everything_agrees_with_exhaustive_search(report: BenchReport) -> None:
    # twelve meshes and hundreds of poses fit the shortlist; three meshes are all there is
    assert report.headline.coarse_mesh_top1_agreement.value == 1.0
    assert report.headline.coarse_spearman.value is not None
    assert report.headline.coarse_spearman.value > 0.8


def test_a_shortlist_of_one_wrong_mesh_disagrees(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    from pasr_perception.benchmark.search import bank_of

    bank = bank_of(subject.library, subject.encoder, CONFIG.library.bank)
    pipeline = subject.pipeline()
    encoded = encode(pipeline, subject.queries)
    exact = dataclasses.replace(pipeline.config.coarse, method="exhaustive")
    monkeypatch.setattr(pipeline, "_shortlist", None)
    pipeline.config = dataclasses.replace(pipeline.config, coarse=exact)
    same = compare_results(pipeline, bank, encoded)
    assert (same.mesh_top1.value, same.pose_top5.value) == (1.0, 1.0)
    rivals = Rivals(torch.tensor([10.0, 10.0, -10.0]), torch.ones(3))
    monkeypatch.setattr(pipeline._space, "rivals", rivals)  # the search now prefers the truck whatever it is shown
    wrong = compare_results(pipeline, bank, encoded)
    assert wrong.mesh_top1.value == pytest.approx(1 / 3)


def test_crowd_repeats_the_fullest_frame(queries: list[Query]) -> None:
    frame = queries[0].frame
    both = [queries[1], queries[0], dataclasses.replace(queries[2], frame=frame)]
    chosen, detections = crowd(both, 5)
    assert chosen is frame
    mine = [queries[0].detection, queries[2].detection]
    assert [any(d is m for m in mine) for d in detections] == [True] * 5
    assert detections[0] is detections[2] is detections[4] is mine[0]


def test_single_crops_are_many_objects_and_crowds_one_frame(queries: list[Query]) -> None:
    single = frames_to_ask(queries * 4, 1, 5)
    assert [
        (frame is q.frame, d == [q.detection]) for (frame, d), q in zip(single, evenly(queries * 4, 5), strict=True)
    ] == [(True, True)] * 5
    ((frame, detections),) = frames_to_ask(queries, 8, 5)
    assert (frame, detections) == crowd(queries, 8)


def test_every_frame_is_asked_about_once_before_it_counts(subject: Any, queries: list[Query]) -> None:
    pipeline, asked = subject.pipeline(), []
    detect = pipeline.detect

    def counted(frame: Any, detections: Any, **options: Any) -> Any:
        asked.append(detections[0].id)
        return detect(frame, detections, **options)

    pipeline.detect = counted
    found = sample({3: pipeline}, frames_to_ask(queries, 1, 3), 5)
    ids = [q.detection.id for q in queries[:3]]
    assert asked == [*ids, *ids, *ids[:2]]
    assert len(found[3].timings) == len(found[3].shortlist) == 5
    assert min(found[3].shortlist) > 0


def test_evenly_keeps_order_and_both_ends(queries: list[Query]) -> None:
    many = queries * 4
    assert len(evenly(many, 5)) == 5
    assert evenly(many, 5)[0] is many[0]
    assert evenly(many, 5)[-1] is many[-1]
    assert evenly(queries, 10) == queries
    with pytest.raises(ValueError, match="at least 1"):
        evenly(queries, 0)


def test_plans_and_subjects_are_checked(subject: Subject) -> None:
    with pytest.raises(ValueError, match="ascending"):
        BenchPlan(sizes=(10, 5, 100))
    with pytest.raises(ValueError, match="at least one detection"):
        dataclasses.replace(subject, queries=[])


def test_a_request_survives_the_way_to_another_process(queries: list[Query], tmp_path: Path) -> None:
    config = PasrConfig(coarse=CoarseConfig(top_k=7))
    request = FreshRequest(tmp_path, config, queries[0].frame, (queries[0].detection,), 3, 1)
    fresh_process._write(request, tmp_path / "request.json")
    back = fresh_process._read(tmp_path / "request.json")
    assert (back.library, back.config, back.repeats, back.threads) == (tmp_path, config, 3, 1)
    np.testing.assert_array_equal(back.frame.image, request.frame.image)
    np.testing.assert_array_equal(back.frame.camera.K, request.frame.camera.K)
    np.testing.assert_allclose(back.detections[0].box, request.detections[0].box)


def test_a_fresh_process_that_fails_is_told_in_words(
    queries: list[Query], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = SimpleNamespace(returncode=-9, stdout="", stderr="")
    monkeypatch.setattr(fresh_process.subprocess, "run", lambda *_, **__: done)
    request = FreshRequest(tmp_path, PasrConfig(), queries[0].frame, (), 0, 1)
    assert fresh_process.in_fresh_process(request) == "ended by signal 9"
    done.returncode, done.stderr = 1, "Traceback\nLibraryError: no such library\n"
    assert fresh_process.in_fresh_process(request) == "ended with status 1: LibraryError: no such library"


def test_there_may_be_more_frames_than_repeats(subject: Any, queries: list[Query]) -> None:
    found = sample({3: subject.pipeline()}, frames_to_ask(queries, 1, 3), 2)[3]
    assert len(found.timings) == len(found.shortlist) == 2
