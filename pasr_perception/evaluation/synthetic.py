"""Runs a method over a set of synthetic photos and reports it per occlusion level, category and look."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pasr_perception.data.detector import jitter_box
from pasr_perception.data.records import BagFrame
from pasr_perception.data.split import known_look_alikes
from pasr_perception.data.synthetic.photo_set import PhotoRecord, PhotoSet
from pasr_perception.evaluation.methods import Answer, Method
from pasr_perception.evaluation.retrieval import (
    MeshKind,
    Outcome,
    RetrievalScores,
    retrieval_scores,
    rotation_error_deg,
    split_by,
)
from pasr_perception.library.store import MeshLibrary
from pasr_perception.types import Detection

Tell = Callable[[str, int, int], None]
OVERALL = "all"


@dataclass(frozen=True)
class PhotoProtocol:
    """How photos are asked about."""

    boxes: str = "whole"  # whole: around all of the object, as the papers' boxes; visible: around what is seen
    jitter: float = 0.05  # every edge is off by up to this share of the box's side
    seed: int = 0
    levels: tuple[str, ...] = ("L0", "L1", "L2", "L3")
    limit: int = 0  # photos per level at most; 0 = all
    repeats: int = 1  # times each photo is asked about, each time with other boxes (and guesses)


def mesh_kinds(library: MeshLibrary) -> dict[str, MeshKind]:
    """Category, symmetry and look-alike group of every mesh of a library; a group counts if two of it are there."""
    ids = {e.id for e in library.entries}
    groups = [ids & set(group) for group in known_look_alikes()]
    number = {i: n for n, group in enumerate(g for g in groups if len(g) > 1) for i in group}
    return {e.id: MeshKind(e.category, e.symmetry, number.get(e.id)) for e in library.entries}


def chosen_records(photos: PhotoSet, protocol: PhotoProtocol, ids: set[str]) -> list[PhotoRecord]:
    """The photos to ask about, level by level; with a limit, evenly from all meshes. Raises ValueError for none."""
    chosen = []
    for level in protocol.levels:
        of_level = [r for r in photos.of_level(level) if r.mesh_id in ids]
        if protocol.limit and len(of_level) > protocol.limit:
            of_level = [of_level[int(i)] for i in np.linspace(0, len(of_level) - 1, protocol.limit)]
        chosen += of_level
    if not chosen:
        raise ValueError(f"{photos.root}: expected photos of the library's meshes at {protocol.levels}, found none")
    return chosen


def evaluate_photos(
    photos: PhotoSet, library: MeshLibrary, method: Method, protocol: PhotoProtocol, tell: Tell | None = None
) -> list[Outcome]:
    """What the method says of each photo of a mesh that the library holds."""
    kinds, outcomes = mesh_kinds(library), []
    records = chosen_records(photos, protocol, set(kinds))
    for done, record in enumerate(records):
        item = photos.frame(record, protocol.boxes)
        for repeat in range(protocol.repeats):
            box = asked_box(item, record, protocol, repeat)
            answer = method.ask(item.frame, [Detection(box, id=record.name)])[0]
            outcomes.append(outcome_of(record, answer, kinds))
        if tell is not None:
            tell(record.name, done, len(records))
    return outcomes


def with_same_pictures(
    outcomes: Sequence[Outcome],
    photos: PhotoSet,
    same: Callable[[PhotoRecord, str], bool],
    tell: Tell | None = None,
) -> list[Outcome]:
    """The outcomes, of wrong first answers said whether they give the same picture (`same_picture.SamePicture`)."""
    records, said = {r.name: r for r in photos.records}, []
    for done, o in enumerate(outcomes):
        wrong = bool(o.ranked) and o.ranked[0] != o.truth_id
        said.append(dataclasses.replace(o, same_picture=wrong and same(records[o.photo], o.ranked[0])))
        if tell is not None:
            tell(f"{o.photo}: same picture", done, len(outcomes))
    return said


def asked_box(item: BagFrame, record: PhotoRecord, protocol: PhotoProtocol, repeat: int = 0) -> np.ndarray:
    """The photo's box [4], jittered by the protocol's seed and the photo's name."""
    box = item.truths[0].box
    assert box is not None
    rng = np.random.default_rng([protocol.seed, repeat, zlib.crc32(record.name.encode())])
    return jitter_box(box, protocol.jitter, item.frame.camera, rng)


def outcome_of(record: PhotoRecord, answer: Answer, kinds: Mapping[str, MeshKind]) -> Outcome:
    """What an answer is worth."""
    symmetry = kinds[record.mesh_id].symmetry
    return Outcome(
        record.name,
        record.mesh_id,
        record.level,
        record.look,
        answer.mesh_ids,
        rotation_error_deg(answer.pose, record.pose, symmetry),
        answer.mesh_ids_before,
        rotation_error_deg(answer.pose_before, record.pose, symmetry),
    )


def synthetic_report(outcomes: Sequence[Outcome], kinds: Mapping[str, MeshKind]) -> dict[str, Any]:
    """Plain data: level -> part (all, before refinement, by category, by look, ...) -> scores."""

    def scores(part: Sequence[Outcome], before: bool = False) -> dict[str, Any]:
        return dataclasses.asdict(retrieval_scores(part, kinds, before))

    levels = {}
    for level, part in split_by(outcomes, lambda o: o.level).items():
        plain = [o for o in part if kinds[o.truth_id].symmetry.is_trivial]
        alike = [o for o in part if kinds[o.truth_id].group is not None]
        levels[level] = {
            OVERALL: scores(part),
            "before refinement": scores(part, before=True),
            "without symmetry": scores(plain),
            "look-alikes": scores(alike),
            "look-alikes, group": group_top1(alike, kinds),
            "same picture": sum(o.same_picture for o in part) / len(part),
            "looks": {name: scores(of) for name, of in split_by(part, lambda o: o.look).items()},
            "categories": {n: scores(of) for n, of in split_by(part, lambda o: kinds[o.truth_id].category).items()},
        }
    return levels


def group_top1(outcomes: Sequence[Outcome], kinds: Mapping[str, MeshKind]) -> float | None:
    """Share of look-alikes for which the first answer is at least one of their own group; None for none."""
    if not outcomes:
        return None
    right = sum(bool(o.ranked) and kinds[o.ranked[0]].group == kinds[o.truth_id].group for o in outcomes)
    return right / len(outcomes)


def results_entry(levels: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """What docs/results.json holds of a method: level -> overall numbers."""
    names = [f.name for f in dataclasses.fields(RetrievalScores) if f.name not in ("objects", "top10")]
    return {level: {name: parts[OVERALL][name] for name in names} for level, parts in levels.items()}
