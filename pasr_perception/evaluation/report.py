"""Evaluates a recorded bag against the bag that was played: numbers, baselines on the same frames, page.

The recorded answers are taken as they are. Only the baselines and, if asked for, the poses of the given true mesh are
computed here, with the same library and the same crops.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh

import pasr_perception
from pasr_perception.config import PasrConfig
from pasr_perception.data.bagio import BagReader, read_frames, read_published, read_statuses
from pasr_perception.data.records import BagFrame, PublishedFrame, PublishedStatus
from pasr_perception.evaluation.baselines import PooledBaseline, RandomPoses, chance_scores
from pasr_perception.evaluation.metrics import percentile_summary
from pasr_perception.evaluation.over_time import Moment, can_be_followed, evaluate, recorded
from pasr_perception.evaluation.page import Picture, picture, render_page
from pasr_perception.evaluation.results import Latency, MethodReport, OutOfLibrary, Report
from pasr_perception.evaluation.scores import (
    Judged,
    PoseError,
    PoseScores,
    Scores,
    judge,
    pose_error,
    score,
    score_poses,
)
from pasr_perception.evaluation.truth import Case, MeshFacts, cases_of_frame, mesh_facts, published_by_stamp
from pasr_perception.pipeline import Pipeline

logger = logging.getLogger(__name__)

PIPELINE_STATUS = ": pipeline"  # how the name of the node's per-frame status ends
LATENCY_PREFIX = "latency_ms/"
MAX_LATENCY_MS = 3.6e6  # more says that stamps and the node's clock have different origins (a bag without /clock)


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate beside the recorded answers."""

    objects_topic: str = "/pasr_node/objects"
    coarse_topic: str = "/pasr_node/coarse_objects"
    diagnostics_topic: str = "/diagnostics"
    baselines: bool = True
    given_mesh: bool = False  # run the pipeline again, restricted to each object's true mesh
    pictures: int = 6
    title: str = "PASR perception: evaluation"
    seed: int = 0


def evaluate_bag(
    truth_bag: str | Path,
    recorded_bag: str | Path,
    library_dir: str | Path,
    out_dir: str | Path,
    options: EvaluationOptions | None = None,
    config: PasrConfig | None = None,
) -> Report:
    """Open the library as the node does, then `evaluate_recording`.

    Raises LibraryError for a library that does not fit the encoder, BagError for a bag that cannot be read.
    """
    for bag in (truth_bag, recorded_bag):  # a wrong path should not take the loading of a library to be noticed
        with BagReader(bag):
            pass
    return evaluate_recording(Pipeline.open(library_dir, config), truth_bag, recorded_bag, out_dir, options)


def evaluate_recording(
    pipeline: Pipeline,
    truth_bag: str | Path,
    recorded_bag: str | Path,
    out_dir: str | Path,
    options: EvaluationOptions | None = None,
) -> Report:
    """Evaluate and write `out_dir`/report.json and `out_dir`/index.html (each replaced in one step)."""
    options = options or EvaluationOptions()
    answers = published_by_stamp(list(read_published(recorded_bag, options.objects_topic)))
    coarse = published_by_stamp(list(read_published(recorded_bag, options.coarse_topic)))
    latency = latencies(read_statuses(recorded_bag, options.diagnostics_topic))
    if not answers:
        logger.warning("%s: topic %s holds no answer at all", recorded_bag, options.objects_topic)
    evaluation = _Evaluation(pipeline, options, _spread_out(sorted(answers), options.pictures))
    for frame in read_frames(truth_bag):
        stamp = frame.frame.stamp_ns
        evaluation.add(frame, answers.get(stamp), coarse.get(stamp))
    unmatched = len(answers) - evaluation.answered
    if unmatched:
        logger.warning("%s: %d answers are to images that %s does not hold", recorded_bag, unmatched, truth_bag)
    about = {
        "truth": str(truth_bag),
        "recorded": str(recorded_bag),
        "library": f"{pipeline.library.path} ({len(pipeline.library.entries)} meshes)",
        "encoder": f"{pipeline.encoder.name} {pipeline.encoder.fingerprint}",
        "version": pasr_perception.__version__,
    }
    report = evaluation.report(latency, about)
    write_report(report, evaluation.pictures, Path(out_dir), options.title)
    return report


def write_report(report: Report, pictures: Sequence[Picture], out_dir: Path, title: str) -> None:
    """Write report.json and index.html into `out_dir`."""
    out_dir.mkdir(parents=True, exist_ok=True)
    _write(out_dir / "report.json", json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n")
    _write(out_dir / "index.html", render_page(report, pictures, title))


def latencies(statuses: Iterable[PublishedStatus]) -> dict[str, Latency]:
    """Per stage, from the node's per-frame diagnostics; values that are no numbers are left out."""
    values: dict[str, list[float]] = defaultdict(list)
    for status in statuses:
        if not status.name.endswith(PIPELINE_STATUS):
            continue
        for key, text in status.values.items():
            value = _number(text) if key.startswith(LATENCY_PREFIX) else None
            if value is not None and 0 <= value < MAX_LATENCY_MS:
                values[key.removeprefix(LATENCY_PREFIX)].append(value)
    return {stage: Latency(*np.percentile(found, [50, 95]).tolist()) for stage, found in values.items()}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _spread_out(stamps: Sequence[int], count: int) -> set[int]:
    if not stamps or count < 1:
        return set()
    return {stamps[i] for i in np.linspace(0, len(stamps) - 1, min(count, len(stamps))).round().astype(int)}


class _Results:
    """What one method answered, case by case."""

    def __init__(self) -> None:
        self.judged: list[Judged] = []
        self.given_before: list[PoseError | None] = []
        self.given_after: list[PoseError | None] = []

    def report(self, facts: Mapping[str, MeshFacts]) -> MethodReport:
        given = score_poses(self.given_before, self.given_after) if self.given_after else None
        return MethodReport(score(self.judged, facts), by_appearance(self.judged, facts), given)


def by_appearance(judged: Sequence[Judged], facts: Mapping[str, MeshFacts]) -> dict[str, Scores]:
    """Scores of the objects whose true mesh has ("known") or lacks ("unknown") colour, where there are any."""
    parts = {name: [j for j in judged if facts[j.truth_id].appearance == name] for name in ("known", "unknown")}
    return {name: score(part, facts) for name, part in parts.items() if part}


class _Evaluation:
    """Goes through the frames once and keeps what the report needs."""

    def __init__(self, pipeline: Pipeline, options: EvaluationOptions, shown: set[int]) -> None:
        self._pipeline, self._options, self._shown = pipeline, options, shown
        self._facts = mesh_facts(pipeline.library)
        self._meshes: dict[str, trimesh.Trimesh] = {}  # of the pictures, loaded when first seen
        self._pooled = PooledBaseline(pipeline) if options.baselines else None
        self._random = RandomPoses(pipeline, options.seed) if options.baselines else None
        self._method, self._pooled_results = _Results(), _Results()
        self._random_errors: dict[str, list[PoseError]] = defaultdict(list)  # by true mesh
        self._top1_before: list[bool] = []
        self._scores: dict[bool, list[float]] = {True: [], False: []}  # by "in the library"
        self._confusion: dict[str, Counter[str]] = defaultdict(Counter)
        self._out_of_library = 0
        self._moments: list[Moment] = []
        self._followed = True
        self.frames = self.answered = 0
        self.pictures: list[Picture] = []

    def add(self, frame: BagFrame, after: PublishedFrame | None, before: PublishedFrame | None) -> None:
        """Take one frame of the played bag with what was answered to it, if anything was."""
        self.frames += 1
        if after is None:
            return
        self.answered += 1
        self._moments.append(recorded(frame, after, self._pipeline.config.confidence.accept))
        self._followed = self._followed and can_be_followed(frame, after)
        cases = cases_of_frame(frame, after, before)
        if frame.frame.stamp_ns in self._shown:
            self.pictures.append(self._picture(frame, cases))
        known = [case for case in cases if case.truth.mesh_id in self._facts]
        self._out_of_library += len(cases) - len(known)
        for case in cases:
            if case.after:
                self._scores[case.truth.mesh_id in self._facts].append(case.after[0].score)
        self._add_method(known)
        if self._options.given_mesh:
            self._add_given(frame, known)
        self._add_baselines(frame, known)

    def _picture(self, frame: BagFrame, cases: Sequence[Case]) -> Picture:
        needed = {case.truth.mesh_id for case in cases} | {case.after[0].mesh_id for case in cases if case.after}
        for mesh_id in sorted((needed & self._facts.keys()) - self._meshes.keys()):
            self._meshes[mesh_id] = self._pipeline.library.load_mesh(mesh_id)
        return picture(frame.frame, cases, self._meshes)

    def _add_method(self, cases: Sequence[Case]) -> None:
        for case in cases:
            judged = judge(case, self._facts)
            self._method.judged.append(judged)
            self._confusion[judged.truth_id][judged.ranked[0] if judged.ranked else ""] += 1
            if case.before:
                self._top1_before.append(case.before[0].mesh_id == judged.truth_id)

    def _add_given(self, frame: BagFrame, cases: Sequence[Case]) -> None:
        detections = [case.detection for case in cases]
        result = self._pipeline.detect(frame.frame, detections, only=[case.truth.mesh_id for case in cases])
        found = {id(o.detection): o for o in result.objects}
        for case in cases:
            estimate, facts = found.get(id(case.detection)), self._facts[case.truth.mesh_id]
            first = estimate.coarse[0].T_cam_obj if estimate and estimate.coarse else None
            last = estimate.best.T_cam_obj if estimate else None
            self._method.given_before.append(None if first is None else pose_error(first, case.truth, facts))
            self._method.given_after.append(None if last is None else pose_error(last, case.truth, facts))

    def _add_baselines(self, frame: BagFrame, cases: Sequence[Case]) -> None:
        if self._pooled is None or self._random is None:
            return
        asked = [(case.detection, case.truth.mesh_id) for case in cases]
        for case, answer in zip(cases, self._pooled.answer(frame.frame, asked), strict=True):
            facts, given = self._facts[case.truth.mesh_id], answer.given_mesh
            same = replace(case, after=answer.hypotheses, before=answer.hypotheses)
            error = None if given is None else pose_error(given, case.truth, facts)
            self._pooled_results.judged.append(judge(same, self._facts))
            self._pooled_results.given_before.append(error)
            self._pooled_results.given_after.append(error)
        for mesh_id, errors in self._random.errors(frame.frame, cases, self._facts):
            self._random_errors[mesh_id] += errors

    def report(self, latency: Mapping[str, Latency], about: Mapping[str, str | int]) -> Report:
        baselines = {}
        if self._pooled is not None:
            baselines = {"chance": self._chance(), "pooled": self._pooled_results.report(self._facts)}
        outside = OutOfLibrary(
            self._out_of_library, percentile_summary(self._scores[False]), percentile_summary(self._scores[True])
        )
        return Report(
            frames=self.frames,
            answered=self.answered,
            method=self._method.report(self._facts),
            mesh_top1_before=float(np.mean(self._top1_before)) if self._top1_before else None,
            latency_ms=latency,
            baselines=baselines,
            out_of_library=outside,
            confusion=self._confusion,
            about=about,
            over_time=evaluate(self._moments, self._facts)[0] if self._moments and self._followed else None,
        )

    def _chance(self) -> MethodReport:
        def of(truth: Sequence[str]) -> tuple[Scores, PoseScores]:
            errors = [e for mesh_id in sorted(set(truth)) for e in self._random_errors[mesh_id]]
            return chance_scores(truth, errors, self._facts)

        truth = [j.truth_id for j in self._method.judged]
        scores, given = of(truth)
        parts = {n: [t for t in truth if self._facts[t].appearance == n] for n in ("known", "unknown")}
        return MethodReport(scores, {n: of(part)[0] for n, part in parts.items() if part}, given)
