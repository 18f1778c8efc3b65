"""What coarse search costs per mesh, against the other ways of doing it, and whether it still finds the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from pasr_perception.bank import Bank
from pasr_perception.benchmark.agreement import TOP_POSES, agreement, rank_correlation, shares
from pasr_perception.benchmark.exhaustive import exhaustive
from pasr_perception.benchmark.figures import Figure, median_figure, missing, paired_ratio, share
from pasr_perception.benchmark.measure import interleaved, seconds
from pasr_perception.benchmark.queries import EncodedQueries
from pasr_perception.benchmark.report import MeshCost
from pasr_perception.benchmark.search import approximate_scores, bank_bytes, search
from pasr_perception.benchmark.subjects import (
    DenseRenderAndCompare,
    DenseTemplates,
    MeshModel,
    RenderAndCompare,
    SparseExact,
    pytorch3d_renderer,
)
from pasr_perception.geometry.viewpoints import QUARTER_TURNS
from pasr_perception.pipeline import Pipeline

BASELINES = ("render", "pytorch3d", "exact", "dense")
MODELS = 2  # real meshes that the baselines take turns with; a mesh's dense templates take up to 250 MB
TOLERANCE = 1e-3  # of a similarity, between ways that compute the same; half precision is the coarsest of them

Scorer = Callable[[torch.Tensor], torch.Tensor]  # maps [B, T, D, g, g] -> scores [B, T * P]


@dataclass(frozen=True)
class CoarseTimes:
    """Seconds per mesh and crop of every way; the i-th repeats of all ways may be paired."""

    baselines: Mapping[str, Sequence[float]]
    search: Mapping[int, Sequence[float]]  # by library size: its time over its meshes
    bytes_per_mesh: Mapping[str, int]


@dataclass(frozen=True)
class Ways:
    """The baselines, set up for a few meshes of one library."""

    scorers: Mapping[str, Sequence[Scorer]]  # by name, one per mesh
    bytes_per_mesh: Mapping[str, int]

    @classmethod
    def of(cls, models: Sequence[MeshModel]) -> Ways:
        dense = [DenseTemplates(m) for m in models]
        scorers: dict[str, Sequence[Scorer]] = {
            "render": [RenderAndCompare(m) for m in models],
            "exact": [SparseExact(m) for m in models],
            "dense": dense,
        }
        renderer = pytorch3d_renderer()
        if renderer is not None:
            scorers["pytorch3d"] = [DenseRenderAndCompare(m, renderer) for m in models]
        cloud = models[0].points.nbytes + models[0].features.nbytes
        sparse = models[0].templates.bytes
        sizes = {"render": cloud, "pytorch3d": cloud, "exact": cloud + sparse, "dense": dense[0].nbytes}
        return cls(scorers, {name: sizes[name] for name in scorers})

    def check(self, maps: torch.Tensor) -> None:
        """Raise RuntimeError unless all ways give the same scores: otherwise their times could not be compared."""
        expected = self.scorers["exact"][0](maps)
        for name, scorers in self.scorers.items():
            off = float((scorers[0](maps) - expected).abs().max())
            if off > TOLERANCE:
                raise RuntimeError(
                    f"{name}: scores differ from the exact ones by up to {off:.2g}, more than {TOLERANCE}"
                )


def time_coarse(pipelines: Mapping[int, Pipeline], bank: Bank, queries: EncodedQueries, repeats: int) -> CoarseTimes:
    """Time one crop's search at every library size, and one mesh by every baseline, in turn; queries take turns too.

    `bank` is that of the real meshes, for its size."""
    source = next(iter(pipelines.values()))
    device = queries.maps.device
    models = [MeshModel.load(source.library, i, device) for i in range(min(MODELS, len(source.library)))]
    ways = Ways.of(models)
    ways.check(queries.maps[:1])

    def baseline(scorers: Sequence[Scorer]) -> Callable[[int], object]:
        return lambda i: scorers[i % len(scorers)](queries.one(i).maps)

    def own(pipeline: Pipeline) -> Callable[[int], object]:
        return lambda i: search(pipeline, queries.one(i))

    calls = {name: at_its_best(baseline(scorers)) for name, scorers in ways.scorers.items()}
    calls |= {f"search {n}": own(pipeline) for n, pipeline in pipelines.items()}
    times = interleaved(calls, repeats)
    kept = bank_bytes(bank)
    return CoarseTimes(
        {name: times[name] for name in ways.scorers},
        {n: [t / n for t in times[f"search {n}"]] for n in pipelines},
        {**ways.bytes_per_mesh, "search": round(sum(kept) / len(kept))},
    )


def at_its_best(call: Callable[[int], object]) -> Callable[[int], object]:
    """The call with one thread or with all of torch's, whichever is faster now: many small operators suffer from threads.

    Times the call once with either. The search under test does not get this choice.
    """
    everything = torch.get_num_threads()

    def with_threads(count: int) -> Callable[[int], object]:
        def limited(i: int) -> object:
            torch.set_num_threads(count)
            try:
                return call(i)
            finally:
                torch.set_num_threads(everything)

        return limited

    choices = [with_threads(count) for count in dict.fromkeys((1, everything))]
    return min(choices, key=lambda choice: seconds(lambda: choice(0), at_least=0))


def speedups(times: CoarseTimes, meshes: int) -> dict[str, Figure]:
    """How many times the search at that library size is faster, per mesh, than every baseline."""
    found = {}
    for name in BASELINES:
        if name not in times.baselines:
            found[name] = missing("x", "pytorch3d cannot be imported here")
            continue
        note = f"seconds per mesh and crop, {name} / search of {meshes} meshes"
        found[name] = paired_ratio(times.baselines[name], times.search[meshes], note)
    return found


def mesh_costs(times: CoarseTimes, pose_set: str) -> list[MeshCost]:
    """The rows of the report."""
    smallest = min(times.search)
    rows = [(name, smallest, seconds) for name, seconds in times.baselines.items()]
    rows += [("search", n, seconds) for n, seconds in times.search.items()]
    return [
        MeshCost(
            way,
            pose_set,
            meshes,
            median_figure(seconds, "s", f"per mesh, one crop; {len(seconds)} repeats"),
            times.bytes_per_mesh[way],
        )
        for way, meshes, seconds in rows
    ]


@dataclass(frozen=True)
class SearchAgreement:
    """The search under test against the exhaustive one, over the same library and queries."""

    mesh_top1: Figure
    pose_top5: Figure
    spearman: Figure  # of the shortlist's approximate scores with the exact ones


def compare_results(pipeline: Pipeline, bank: Bank, queries: EncodedQueries) -> SearchAgreement:
    """Mesh top-1, pose top-5 and rank correlation on the pipeline's own (real) library."""
    library = pipeline.library
    exact = exhaustive(library, queries, pipeline.config)
    found = search(pipeline, queries)
    mesh, pose = shares([agreement(e, f) for e, f in zip(exact.best, found, strict=True)])
    size = f"{len(library)} real meshes"
    turns = [QUARTER_TURNS[e.pose_set] for e in library.entries]
    approximate = approximate_scores(bank, turns, queries)
    rank = [rank_correlation(e, a) for e, a in zip(exact.similarity, approximate, strict=True)]
    return SearchAgreement(
        share(mesh, f"same mesh first as in exhaustive search of {size}"),
        share(pose, f"the best (mesh, pose) of exhaustive search among the first {TOP_POSES} candidates, {size}"),
        median_figure(
            rank,
            "",
            f"Spearman of the shortlist's scores of all (mesh, pose) pairs with the exact ones, {size}; "
            f"median and range of {len(rank)} queries",
        ),
    )


def pose_set_cost(upright: Pipeline, so3: Pipeline, queries: EncodedQueries, repeats: int) -> Figure:
    """Search time of the same meshes with the so3 pose set over that with the upright one, one crop."""
    times = interleaved(
        {"so3": lambda i: search(so3, queries.one(i)), "upright": lambda i: search(upright, queries.one(i))}, repeats
    )
    note = (
        f"coarse search of {len(so3.library)} meshes, so3 poses in 4 turns / upright poses in 1; encoding not counted"
    )
    return paired_ratio(times["so3"], times["upright"], note)
