"""How much of what exhaustive search finds a shortlist finds, and in what time, over the settings that decide it.

    python tests/benchmarks/operating_points.py LIBRARY PHOTOS [--count 240]

PHOTOS is a bag, or a folder of `pasr data photos`. A point is shortlist_meshes, poses_each, poses_more, exact_poses of `coarse`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pasr_perception.benchmark.agreement import agreement, shares
from pasr_perception.benchmark.exhaustive import exhaustive
from pasr_perception.benchmark.queries import Query, bag_queries, encode, evenly
from pasr_perception.benchmark.search import search
from pasr_perception.config import CoarseConfig, PasrConfig
from pasr_perception.data.synthetic.photo_set import PhotoSet
from pasr_perception.evaluation.synthetic import PhotoProtocol, asked_box, chosen_records
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Detection

ALL = 10**6  # more poses than any shortlist has: the sieve lets all of them pass
POINTS = (
    (32, 8, 128, ALL),
    (32, 4, 64, ALL),
    (32, 2, 64, ALL),
    (32, 8, 256, ALL),
    (32, 12, 192, ALL),
    (32, 8, 256, 96),
    (32, 12, 192, 128),
    (32, 12, 192, 64),
    (32, 12, 192, 48),
)


def photo_queries(photos: PhotoSet, meshes: set[str]) -> list[Query]:
    """Every photo that shows one of the meshes, with a loose box."""
    protocol, found = PhotoProtocol(), []
    for record in chosen_records(photos, protocol, meshes):
        item = photos.frame(record, protocol.boxes)
        found.append(Query(item.frame, Detection(asked_box(item, record, protocol), id=record.name), None))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=240, help="queries at most, evenly spread")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = Pipeline.open(arguments.library, PasrConfig())
    is_bag = (arguments.photos / "metadata.yaml").is_file()
    meshes = {entry.id for entry in pipeline.library.entries}
    asked = bag_queries(arguments.photos) if is_bag else photo_queries(PhotoSet.open(arguments.photos), meshes)
    queries = encode(pipeline, evenly(asked, arguments.count))
    exact = exhaustive(pipeline.library, queries, pipeline.config)
    print(f"{len(pipeline.library)} meshes, {len(queries.maps)} queries")
    for point in POINTS:
        names = ("shortlist_meshes", "poses_each", "poses_more", "exact_poses")
        config = replace(pipeline.config, coarse=CoarseConfig(**dict(zip(names, point, strict=True))))
        other = Pipeline(pipeline.library, pipeline.encoder, config, pipeline.device)
        search(other, queries.one(0))
        found, spent = [], []
        for k in range(len(queries.maps)):
            began = time.process_time()
            found += search(other, queries.one(k))
            spent.append(time.process_time() - began)
        mesh, pose = shares([agreement(e, f) for e, f in zip(exact.best, found, strict=True)])
        shown = ", ".join("all" if number == ALL else str(number) for number in point)
        print(
            f"{shown:20} mesh top-1 {np.mean(mesh):.4f}   pose top-5 {np.mean(pose):.4f}   "
            f"{1e3 * np.median(spent):.0f} ms of one core"
        )


if __name__ == "__main__":
    main()
