"""Makes a set of synthetic photos on all cores; started again, it goes on where it was stopped.

Every photo is settled by the seed, its mesh, its level and its number alone: however many processes make it, and whether it was
begun once or twice.
"""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from pasr_perception.data.scene_layout import SceneMesh
from pasr_perception.data.scene_render import Shape
from pasr_perception.data.synthetic.compose import compose_photo
from pasr_perception.data.synthetic.photo_set import (
    ALWAYS,
    LAYERS,
    PhotoMesh,
    PhotoRecord,
    append_record,
    read_records,
    write_header,
    write_photo,
)
from pasr_perception.data.synthetic.spec import LEVELS, PhotoSpec
from pasr_perception.data.synthetic.stage import PhotoError, Prop
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.meshes import MeshError, load_mesh

log = logging.getLogger(__name__)

COMPANIONS = 6  # other meshes that may stand around in the photos of one mesh
CACHED_MESHES = 24  # per process
Tell = Callable[[str, int, int], None]  # what is being done, photos done, photos in all


@dataclass(frozen=True)
class PhotoPlan:
    """Which photos to make."""

    levels: tuple[str, ...] = tuple(LEVELS)
    per_mesh: int = 2  # photos of each mesh at each level
    layers: tuple[str, ...] = tuple(LAYERS)
    spec: PhotoSpec = field(default_factory=PhotoSpec)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.levels or not set(self.levels) <= set(LEVELS):
            raise ValueError(f"levels: expected some of {', '.join(LEVELS)}, got {self.levels}")
        if self.per_mesh < 1:
            raise ValueError(f"per_mesh: expected at least 1, got {self.per_mesh}")
        if not set(ALWAYS) <= set(self.layers) <= set(LAYERS):
            raise ValueError(f"layers: expected {', '.join(ALWAYS)} and any of {', '.join(LAYERS)}, got {self.layers}")


@dataclass(frozen=True)
class Made:
    """What became of a plan."""

    photos: int  # in the set now
    made: int  # this time
    failed: tuple[str, ...]  # one line each


@dataclass(frozen=True)
class _Job:
    """The photos of one mesh that are still missing."""

    root: Path
    mesh: PhotoMesh
    companions: tuple[PhotoMesh, ...]
    wanted: tuple[tuple[str, int], ...]  # level, number
    plan: PhotoPlan


def photo_mesh(source: MeshSource) -> PhotoMesh:
    return PhotoMesh(source.id, source.category, str(source.path), source.unit, source.up, source.pose_set == "upright")


def photo_name(mesh_id: str, level: str, number: int) -> str:
    return f"{mesh_id}_{level}_{number:04d}"


def generate_photos(
    root: str | Path, sources: Sequence[MeshSource], plan: PhotoPlan, workers: int = 0, tell: Tell | None = None
) -> Made:
    """Make what is missing of the plan in `root`, one process per core (`workers` other than 0: so many).

    Occluders and clutter are other meshes of `sources`. A photo that cannot be made is reported, and the others go on.
    Raises DatasetError where `root` holds photos of another plan, ValueError without meshes.
    """
    root, meshes = Path(root), [photo_mesh(source) for source in sources]
    if not meshes:
        raise ValueError("sources: expected at least one mesh, got none")
    root.mkdir(parents=True, exist_ok=True)
    write_header(root, {**dataclasses.asdict(plan), "meshes": [dataclasses.asdict(mesh) for mesh in meshes]})
    there = {record.name for record in read_records(root)}
    jobs = list(_jobs(root, meshes, plan, there))
    total = len(meshes) * len(plan.levels) * plan.per_mesh
    made, failed = 0, list[str]()
    for records, reasons in _run(jobs, workers):
        for record in records:
            append_record(root, record)
            made += 1
            if tell is not None:
                tell(record.name, len(there) + made, total)
        for reason in reasons:
            log.warning("left out: %s", reason)
        failed += reasons
    return Made(len(there) + made, made, tuple(failed))


def _jobs(root: Path, meshes: Sequence[PhotoMesh], plan: PhotoPlan, there: set[str]) -> Iterator[_Job]:
    for index, mesh in enumerate(meshes):
        wanted = [
            (level, number)
            for level in plan.levels
            for number in range(plan.per_mesh)
            if photo_name(mesh.id, level, number) not in there
        ]
        others = np.delete(np.arange(len(meshes)), index)
        rng = np.random.default_rng([plan.seed, zlib.crc32(mesh.id.encode())])
        companions = tuple(meshes[int(i)] for i in rng.permutation(others)[:COMPANIONS])
        if wanted:
            yield _Job(root, mesh, companions, tuple(wanted), plan)


def _run(jobs: Sequence[_Job], workers: int) -> Iterator[tuple[list[PhotoRecord], list[str]]]:
    count = min(workers or os.cpu_count() or 1, max(len(jobs), 1))
    if count == 1:
        yield from map(_make, jobs)
        return
    # a forked child would inherit the locks of torch's threads
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_make, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _make(job: _Job) -> tuple[list[PhotoRecord], list[str]]:
    """All photos of one job, and a line for each that could not be made."""
    cv2.setNumThreads(1)  # the processes share the cores
    records, failed = [], list[str]()
    try:
        target = _prop(job.mesh)
    except MeshError as error:
        return [], [str(error)]
    companions = []
    for mesh in job.companions:
        try:
            companions.append(_prop(mesh))
        except MeshError as error:
            log.warning("left out: %s", error)
    for level, number in job.wanted:
        name = photo_name(job.mesh.id, level, number)
        rng = np.random.default_rng([job.plan.seed, zlib.crc32(name.encode())])
        try:
            photo = compose_photo(target, companions, LEVELS[level], job.plan.spec, rng)
        except PhotoError as error:
            failed.append(f"{name}: {error}")
            continue
        bounds = np.asarray(target.item.mesh.bounds)
        records.append(write_photo(job.root, name, job.mesh, level, photo, bounds, job.plan.layers))
    return records, failed


@lru_cache(CACHED_MESHES)
def _prop(mesh: PhotoMesh) -> Prop:
    loaded = load_mesh(mesh.path, mesh.unit)
    return Prop(SceneMesh(mesh.id, loaded, mesh.up), Shape(loaded), mesh.upright)
