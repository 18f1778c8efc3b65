"""The benchmark from end to end: photos, grown libraries, timings, agreement, refinement, a fresh process; one report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pasr_perception.bank import Bank
from pasr_perception.benchmark import headline
from pasr_perception.benchmark.figures import Figure
from pasr_perception.benchmark.fresh import FreshAnswer, FreshRequest, in_fresh_process
from pasr_perception.benchmark.grow import grow, grow_bank, repose
from pasr_perception.benchmark.machine import machine_facts
from pasr_perception.benchmark.plan import BenchPlan, Subject
from pasr_perception.benchmark.queries import crowd, encode, evenly, frames_to_ask
from pasr_perception.benchmark.refining import compare_refinement
from pasr_perception.benchmark.report import BenchReport
from pasr_perception.benchmark.search import bank_of, put_bank
from pasr_perception.benchmark.searching import CoarseTimes, compare_results, mesh_costs, pose_set_cost, time_coarse
from pasr_perception.benchmark.stages import Samples, sample
from pasr_perception.geometry.viewpoints import POSE_SETS
from pasr_perception.library.opening import encoder_for
from pasr_perception.library.store import MeshLibrary
from pasr_perception.pipeline import Pipeline

Progress = Callable[[str, int, int], None]  # (what is being done, steps done, steps in all)
STEPS = 8
ASKED = 16  # queries that take turns in timings


@dataclass(frozen=True)
class Fresh:
    """What processes of their own found out about the largest library."""

    opened: tuple[FreshAnswer, ...]
    answered: Mapping[int, FreshAnswer]  # by crops
    problem: str  # why something is missing; "" = nothing is


@dataclass(frozen=True)
class Timings:
    """What was measured on grown libraries."""

    coarse: CoarseTimes
    pose_sets: Figure
    samples: Mapping[int, Mapping[int, Samples]]  # by crops, by meshes
    fresh: Fresh


def run(subject: Subject, plan: BenchPlan, work: Path, progress: Progress | None = None) -> BenchReport:
    """Measure everything. Grown libraries are made in `work` (same file system as the library: hard links) and deleted.

    Raises RuntimeError where a baseline does not compute the scores that the search computes.
    """
    began, machine = time.perf_counter(), machine_facts(subject.device)
    tell = progress or (lambda what, done, total: None)
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=work) as name:
        folder, source = Path(name), subject.library
        tell("growing libraries", 0, STEPS)
        bank = bank_of(source, subject.encoder, subject.config.library.bank)
        real = subject.pipeline(_grown(source, bank, folder / "real", len(source), plan.seed))
        timings = _timings(subject, bank, plan, folder, tell)
        tell("agreement with exhaustive search", 5, STEPS)
        agreement = compare_results(real, bank, encode(real, evenly(subject.queries, plan.queries)))
        tell("refinement", 6, STEPS)
        refined = compare_refinement(real, evenly(subject.queries, plan.refine_queries))
        tell("report", 7, STEPS)
        figures = headline.headline(real.library, bank, plan, timings, agreement, refined)
    report = BenchReport(
        figures,
        headline.stage_rows(timings.samples, timings.fresh.answered, len(source), plan),
        tuple(mesh_costs(timings.coarse, source.entries[0].pose_set)),
        headline.not_measured(timings),
        machine,
        headline.about(subject, plan, time.perf_counter() - began),
    )
    tell("done", STEPS, STEPS)
    return report


def _timings(subject: Subject, bank: Bank, plan: BenchPlan, folder: Path, tell: Progress) -> Timings:
    grown = {n: _grown(subject.library, bank, folder / str(n), n, plan.seed) for n in plan.sizes}
    pipelines = {n: subject.pipeline(grown[n]) for n in plan.sizes[:-1]}
    tell("coarse search and its baselines", 1, STEPS)
    asked = encode(pipelines[plan.small], evenly(subject.queries, ASKED))
    coarse = time_coarse(pipelines, bank, asked, plan.coarse_repeats)
    tell("stages", 2, STEPS)
    frames = {c: frames_to_ask(subject.queries, c, plan.repeats_of(c)) for c in plan.crops}
    samples = {c: sample(pipelines, frames[c], plan.repeats_of(c)) for c in plan.crops}
    del pipelines  # their memory is wanted by the next
    tell("pose sets", 3, STEPS)
    pose_sets = _pose_sets(subject, plan, folder)
    tell(f"{plan.huge} meshes in a fresh process", 4, STEPS)
    return Timings(coarse, pose_sets, samples, _fresh(subject, grown[plan.huge].path, plan))


def _grown(source: MeshLibrary, bank: Bank, out: Path, meshes: int, seed: int) -> MeshLibrary:
    """A library of so many meshes, with its bank; see `grow.py`."""
    grown = grow(source, out, meshes)
    put_bank(out, grow_bank(bank, grown.source, grown.real, seed))
    return MeshLibrary.open(out)


def _pose_sets(subject: Subject, plan: BenchPlan, folder: Path) -> Figure:
    """The same real meshes with either pose set, both grown to the large size."""
    pipelines: dict[str, Pipeline] = {}
    for name in POSE_SETS:
        posed = repose(subject.library, folder / name, name, plan.reposed)
        bank = bank_of(posed, subject.encoder, subject.config.library.bank)
        pipelines[name] = subject.pipeline(_grown(posed, bank, folder / f"{name}_grown", plan.large, plan.seed))
    asked = encode(pipelines["so3"], evenly(subject.queries, ASKED))
    return pose_set_cost(pipelines["upright"], pipelines["so3"], asked, plan.coarse_repeats)


def _fresh(subject: Subject, library: Path, plan: BenchPlan) -> Fresh:
    """Open the largest library some times, and answer frames of every number of crops with it."""
    frame, _ = crowd(subject.queries, 1)
    config = replace(subject.config, encoder=encoder_for(subject.library.header, subject.config.encoder))
    base = FreshRequest(library, config, frame, (), 0, torch.get_num_threads())
    opened: list[FreshAnswer] = []
    answered: dict[int, FreshAnswer] = {}
    for _ in range(plan.open_repeats):
        got = in_fresh_process(base)
        if isinstance(got, str):
            return Fresh(tuple(opened), {}, got)
        opened.append(got)
    for crops in plan.crops:
        frame, detections = crowd(subject.queries, crops)
        got = in_fresh_process(replace(base, frame=frame, detections=tuple(detections), repeats=plan.repeats_of(crops)))
        if isinstance(got, str):
            return Fresh(tuple(opened), answered, got)
        answered[crops] = got
    return Fresh(tuple(opened), answered, "")
