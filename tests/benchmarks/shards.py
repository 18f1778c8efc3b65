"""One library on several machines, simulated on this one: what a shard costs, and that merging changes no answer.

    python tests/benchmarks/shards.py LIBRARY BAG --work out/shards [--meshes 10000] [--shards 1 4 16]

A shard is a library of its own, searched by a process of its own; the candidates of all shards are merged by how far they stand
out (`types.Rivals`), which is a mesh's own affair. Two things are measured:
- answers: the library's real meshes dealt out to as many libraries, searched and merged, against the whole library;
- seconds: one shard of a library that was grown to `--meshes` (`benchmark/grow.py`), for every number of shards. Shards run one
  after the other here; on machines of their own the slowest one counts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pasr_perception.benchmark.grow import grow, grow_bank
from pasr_perception.benchmark.queries import EncodedQueries, bag_queries, encode, evenly
from pasr_perception.benchmark.search import bank_of, put_bank
from pasr_perception.config import PasrConfig
from pasr_perception.library.build import remove_from_library
from pasr_perception.library.opening import open_with_encoder
from pasr_perception.library.store import MeshLibrary
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Candidates

QUERIES, REPEATS = 24, 7


def dealt_out(library: MeshLibrary, shards: int, out: Path) -> list[Path]:
    """The library's meshes in so many libraries, the i-th mesh in the i-th modulo `shards`."""
    paths = []
    for shard in range(shards):
        paths.append(out / f"{shards}_{shard}")
        shutil.copytree(library.path, paths[-1], copy_function=os.link)
        remove_from_library(paths[-1], [e.id for i, e in enumerate(library.entries) if i % shards != shard])
    return paths


def merged(found: Sequence[tuple[Pipeline, Candidates]], count: int) -> list[str]:
    """Mesh ids of the best candidates of several shards, those that stand out most first."""
    ranked = []
    for pipeline, candidates in found:
        margin = pipeline.rivals.margin(candidates.value.cpu(), candidates.mesh_index)
        ids = [pipeline.library.entries[i].id for i in candidates.mesh_index.tolist()]
        ranked += list(zip(margin.tolist(), ids, strict=True))
    return [mesh for _, mesh in sorted(ranked, reverse=True)[:count]]


def agreement(whole: Pipeline, shards: Sequence[Pipeline], queries: EncodedQueries) -> tuple[float, float]:
    """Shares of queries with the same first mesh, and with the same list of candidates' meshes."""
    first = every = 0
    for i in range(len(queries.maps)):
        one = queries.one(i)
        expected = merged([(whole, whole.search(one.maps, one.box_size)[0])], whole.config.coarse.top_k)
        found = merged([(s, s.search(one.maps, one.box_size)[0]) for s in shards], whole.config.coarse.top_k)
        first += expected[0] == found[0]
        every += expected == found
    return first / len(queries.maps), every / len(queries.maps)


def seconds(pipeline: Pipeline, queries: EncodedQueries) -> list[float]:
    """Search time of single crops, the first ones left out."""
    taken = []
    for i in range(REPEATS + 2):
        one = queries.one(i % 3)
        begin = time.perf_counter()
        pipeline.search(one.maps, one.box_size)
        taken.append(time.perf_counter() - begin)
    return taken[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("bag", type=Path)
    parser.add_argument(
        "--work", type=Path, default=Path("out/shards"), help="on the library's file system: hard links"
    )
    parser.add_argument("--meshes", type=int, default=10000)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4, 16])
    arguments = parser.parse_args()
    config = PasrConfig()
    library, encoder, device = open_with_encoder(arguments.library, config.encoder)
    whole = Pipeline(library, encoder, config, device)
    queries = encode(whole, evenly(bag_queries(arguments.bag), QUERIES))
    shutil.rmtree(arguments.work, ignore_errors=True)
    for count in arguments.shards:
        paths = dealt_out(library, min(count, len(library)), arguments.work / "real")
        opened = [Pipeline(MeshLibrary.open(path), encoder, config, device) for path in paths]
        first, every = agreement(whole, opened, queries)
        print(
            f"{len(opened):3} shards of {len(library)} real meshes: same first mesh {first:.2f}, same candidates {every:.2f}"
        )
    for count in arguments.shards:
        meshes = arguments.meshes // count
        grown = grow(library, arguments.work / f"grown_{count}", meshes)
        put_bank(
            grown.path, grow_bank(bank_of(library, encoder, config.library.bank), grown.source, grown.real, seed=0)
        )
        taken = seconds(Pipeline(MeshLibrary.open(grown.path), encoder, config, device), queries)
        low, middle, high = min(taken), statistics.median(taken), max(taken)
        print(
            f"{count:3} shards of {meshes} meshes: search {1e3 * middle:.0f} ms ({1e3 * low:.0f} to {1e3 * high:.0f})"
        )
    shutil.rmtree(arguments.work)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
