"""The figures that a run is judged by, put together from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pasr_perception.bank import Bank
from pasr_perception.benchmark.figures import Figure, median_figure, missing, paired_ratio
from pasr_perception.benchmark.fresh import FreshAnswer
from pasr_perception.benchmark.grow import disk_bytes
from pasr_perception.benchmark.plan import BenchPlan, Subject
from pasr_perception.benchmark.refining import RefineComparison
from pasr_perception.benchmark.report import About, Headline
from pasr_perception.benchmark.search import bank_bytes
from pasr_perception.benchmark.searching import SearchAgreement, speedups
from pasr_perception.benchmark.stages import Samples, StageRow, stage_row
from pasr_perception.geometry.viewpoints import QUARTER_TURNS
from pasr_perception.library.store import MeshLibrary

if TYPE_CHECKING:
    from pasr_perception.benchmark.run import Fresh, Timings

NO_TRACKING = "no object was found that could be followed"
NO_PUBLISH = "ROS cannot be imported here"


def headline(
    library: MeshLibrary,
    bank: Bank,
    plan: BenchPlan,
    timings: Timings,
    agreement: SearchAgreement,
    refined: RefineComparison,
) -> Headline:
    """Every figure; those that could not be measured say why."""
    faster = speedups(timings.coarse, plan.large)
    samples = timings.samples[plan.crops[0]]
    kept, on_disk = bank_bytes(bank), disk_bytes(library)
    large = stage_row(samples[plan.large], plan.large, len(library), plan.crops[0])
    return Headline(
        coarse_speedup_vs_render=faster["render"],
        coarse_speedup_vs_pytorch3d=faster["pytorch3d"],
        coarse_speedup_vs_exact=faster["exact"],
        coarse_speedup_vs_dense=faster["dense"],
        coarse_mesh_top1_agreement=agreement.mesh_top1,
        coarse_pose_top5_agreement=agreement.pose_top5,
        coarse_spearman=agreement.spearman,
        coarse_so3_over_upright=timings.pose_sets,
        bytes_per_mesh=median_figure(kept, "bytes", _bank_note(bank)),
        disk_bytes_per_mesh=median_figure(on_disk, "bytes", f"{len(on_disk)} real meshes, median and range"),
        cost_n1000_over_n10=_growth(samples, plan),
        after_encoder_over_encoder_n1000=large.after_encoder_over_encoder,
        refine_speedup_vs_adamw=refined.speedup,
        refine_loss_ratio_vs_adamw=refined.loss_ratio,
        refine_error_ratio_vs_adamw=refined.error_ratio,
        open_seconds_n10000=_open_seconds(timings.fresh, plan),
        peak_memory_mb_n10000=_peak_memory(timings.fresh, plan),
    )


def stage_rows(
    samples: Mapping[int, Mapping[int, Samples]], fresh: Mapping[int, FreshAnswer], real: int, plan: BenchPlan
) -> tuple[StageRow, ...]:
    """One row per library size and number of crops; `fresh` has the largest size, by crops."""
    rows = [stage_row(s, n, real, crops) for crops, by_size in samples.items() for n, s in by_size.items()]
    rows += [stage_row(Samples(a.timings), plan.huge, real, crops) for crops, a in fresh.items()]
    return tuple(sorted(rows, key=lambda row: (row.meshes, row.crops)))


def not_measured(timings: Timings) -> tuple[tuple[str, str], ...]:
    """(what, why) of everything that is missing."""
    found = []
    samples = [s for by_size in timings.samples.values() for s in by_size.values()]
    if not any(s.track for s in samples):
        found.append(("track", NO_TRACKING))
    if not any(s.publish for s in samples):
        found.append(("publish", NO_PUBLISH))
    if "pytorch3d" not in timings.coarse.baselines:
        found.append(("pytorch3d", "cannot be imported here"))
    if timings.fresh.problem:
        found.append(("fresh process", timings.fresh.problem))
    return tuple(found)


def about(subject: Subject, plan: BenchPlan, seconds: float) -> About:
    """What the run was made on."""
    library, header = subject.library, subject.library.header
    return About(
        library=str(library.path),
        meshes=len(library),
        pose_sets=tuple(sorted({e.pose_set for e in library.entries})),
        encoder=header.encoder_name,
        dim=header.encoder_dim,
        grid=header.grid,
        poses=len(library.templates(0).rotation) * len(QUARTER_TURNS[library.entries[0].pose_set]),
        points=len(library.data(0).points),
        queries=subject.photos,
        query_count=len(subject.queries),
        quick=plan.quick,
        seed=plan.seed,
        seconds=round(seconds, 1),
    )


def _bank_note(bank: Bank) -> str:
    count = len(bank.count)
    shared = (bank.basis.channels.nbytes + bank.basis.directions.nbytes) // count
    return f"in the bank, {count} real meshes, median and range; {shared} of it the share of the basis that all have in common"


def _growth(samples: Mapping[int, Samples], plan: BenchPlan) -> Figure:
    above, below = ([t.total for t in samples[n].timings] for n in (plan.large, plan.small))
    return paired_ratio(above, below, f"whole frame of {plan.crops[0]} crop, {plan.large} meshes / {plan.small}")


def _open_seconds(fresh: Fresh, plan: BenchPlan) -> Figure:
    if not fresh.opened:
        return missing("s", fresh.problem)
    note = (
        f"MeshLibrary.open and Pipeline of {plan.huge} meshes in a fresh process; Python's start, imports, encoder and kernels "
        f"not counted; files in the page cache; median and range of {len(fresh.opened)}"
    )
    return median_figure([a.ready_seconds for a in fresh.opened], "s", note)


def _peak_memory(fresh: Fresh, plan: BenchPlan) -> Figure:
    if not fresh.answered:
        return missing("MB", fresh.problem)
    answers: Sequence[FreshAnswer] = list(fresh.answered.values())
    own = [a.own_mb for a in answers if a.own_mb is not None]
    private = f", {max(own):.0f} MB in the end its own and not mapped files" if own else ""
    note = (
        f"peak resident set of a fresh process, {plan.huge} meshes, frames of {' and '.join(map(str, fresh.answered))} "
        f"crops (median and range over them); {max(a.before_mb for a in answers):.0f} MB before the library is "
        f"opened{private}"
    )
    return median_figure([a.peak_mb for a in answers], "MB", note)
