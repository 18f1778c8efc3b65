"""Queries that are real to the encoder: photos of a bag, or simulated photos of the library's own meshes; never noise."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pasr_perception.crop import crop_detections
from pasr_perception.data.bagio import read_frames
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.data.scene import SceneSpec, simulate
from pasr_perception.data.scene_meshes import load_scene_meshes
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Crop, Detection, Frame

OBJECTS_PER_SCENE = 7


@dataclass(frozen=True)
class Query:
    """One detection in one photo."""

    frame: Frame
    detection: Detection
    truth: Truth | None  # None where nobody knows


@dataclass(frozen=True)
class EncodedQueries:
    """What the search is given."""

    maps: torch.Tensor  # [B, T, D, g, g] float32, of the crops turned by 0..T-1 quarters
    box_size: torch.Tensor  # [B, 2] width and height of each crop's box

    def one(self, number: int) -> EncodedQueries:
        """A single query; counting goes on from the front where it passes the last."""
        k = number % len(self.maps)
        return EncodedQueries(self.maps[k : k + 1], self.box_size[k : k + 1])


def bag_queries(bag: str | Path) -> list[Query]:
    """Every detection of a bag, in its order; raises BagError where the bag cannot be read."""
    return queries_of(read_frames(bag))


def simulated_queries(meshes: str | Path, frames: int, seed: int) -> list[Query]:
    """Detections in simulated photos of a library's own meshes: another arrangement, room and camera in every frame."""
    spec = SceneSpec(frames=frames, scenes=frames, objects=OBJECTS_PER_SCENE, min_detected=5, seed=seed)
    return queries_of(simulate(load_scene_meshes(meshes), spec))


def queries_of(frames: Iterable[BagFrame]) -> list[Query]:
    """The detections of frames, each with the truth that has its id."""
    found = []
    for item in frames:
        truths = {truth.id: truth for truth in item.truths}
        found += [Query(item.frame, d, truths.get(d.id)) for d in item.detections]
    return found


def evenly(queries: Sequence[Query], count: int) -> list[Query]:
    """`count` of the queries, evenly spread over their order; all of them where there are fewer."""
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    if len(queries) <= count:
        return list(queries)
    return [queries[i] for i in np.linspace(0, len(queries) - 1, count).round().astype(int)]


def crops_of(pipeline: Pipeline, queries: Sequence[Query]) -> list[Crop]:
    """The crops of the queries that can be cropped."""
    found = (crop_detections(q.frame, [q.detection], pipeline.crop_spec)[0] for q in queries)
    return list(itertools.chain.from_iterable(found))


def encode(pipeline: Pipeline, queries: Sequence[Query]) -> EncodedQueries:
    """Feature maps of the queries as the pipeline makes them; raises ValueError where none can be cropped."""
    crops = crops_of(pipeline, queries)
    if not crops:
        raise ValueError("queries: expected at least one detection that can be cropped, got none")
    box = np.stack([c.box[2:] - c.box[:2] for c in crops])
    maps = pipeline.encode(crops)
    return EncodedQueries(maps, torch.tensor(box, dtype=torch.float32, device=maps.device))


def crowd(queries: Sequence[Query], crops: int) -> tuple[Frame, list[Detection]]:
    """One photo with `crops` detections: the fullest one, its detections repeated where it has fewer."""
    if not queries:
        raise ValueError("queries: expected at least one, got none")
    by_frame: dict[int, list[Query]] = {}
    for query in queries:
        by_frame.setdefault(id(query.frame), []).append(query)
    fullest = max(by_frame.values(), key=len)
    return fullest[0].frame, list(itertools.islice(itertools.cycle(q.detection for q in fullest), crops))


def frames_to_ask(queries: Sequence[Query], crops: int, count: int) -> list[tuple[Frame, list[Detection]]]:
    """Frames with `crops` detections each: the `crowd`, or `count` single ones, evenly spread: objects differ in what they cost."""
    if crops > 1:
        return [crowd(queries, crops)]
    return [(query.frame, [query.detection]) for query in evenly(queries, count)]
