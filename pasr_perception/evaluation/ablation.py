"""Ablations, PASR's and ours: one thing is changed at a time, on photos whose crops are encoded once.

PASR varies the number of refinement steps and of views (n elevations x 3n azimuths x n in-plane turns: 24, 81, 192, 648). Ours
are the solver, what else it may move, and where point features come from. Boxes are tightened and looked through once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from pasr_perception.config import RefineConfig
from pasr_perception.data.synthetic.photo_set import PhotoRecord, PhotoSet
from pasr_perception.evaluation.methods import RANKED, Answer
from pasr_perception.evaluation.retrieval import Outcome, retrieval_scores, split_by
from pasr_perception.evaluation.synthetic import PhotoProtocol, asked_box, chosen_records, mesh_kinds, outcome_of
from pasr_perception.evaluation.tables import ABLATED
from pasr_perception.geometry.viewpoints import UPRIGHT_ELEVATIONS, UPRIGHT_INPLANE, look_at, up_rotation
from pasr_perception.lift import LiftError
from pasr_perception.pipeline import Pipeline
from pasr_perception.rank import Ranked, rank
from pasr_perception.templates import Templates, build_templates, outline_mismatch, score_many
from pasr_perception.types import Camera, Candidates, Crop, Detection

Tell = Callable[[str, int, int], None]
OFF = RefineConfig(iterations=0)
STEPS = (10, 20, 30, 50)  # of AdamW
GRIDS = (2, 3, 4, 6)  # n of PASR's view grids
NO_COVERAGE = 1e-3  # next to no weight of the coverage term; none at all is refused, since scale would be free


@dataclass(frozen=True)
class Asked:
    """One photo, cropped and encoded."""

    record: PhotoRecord
    camera: Camera
    crop: Crop
    maps: torch.Tensor  # [1, T, D, g, g] of `Pipeline.encode`


@dataclass(frozen=True)
class Beside:
    """A library of the same meshes with other features, and the photos as its encoder sees them."""

    pipeline: Pipeline
    asked: Sequence[Asked]


def look_at_photos(pipeline: Pipeline, photos: PhotoSet, protocol: PhotoProtocol, tell: Tell) -> list[Asked]:
    """The photos of the protocol that show a mesh of the library."""
    records, found = chosen_records(photos, protocol, {e.id for e in pipeline.library.entries}), []
    for done, record in enumerate(records):
        tell(record.name, done, len(records))
        item = photos.frame(record, protocol.boxes)
        detection = Detection(asked_box(item, record, protocol), id=record.name)
        look = pipeline.look(item.frame, [detection])
        if look.maps is not None:
            found.append(Asked(record, item.frame.camera, look.crops[0], look.maps))
    return found


# --- the two halves of a search ------------------------------------------------------------------------------------


def box_sizes(asked: Sequence[Asked], device: torch.device) -> torch.Tensor:
    """Width and height [B, 2] of the crops' boxes, pixels."""
    return torch.tensor(np.stack([a.crop.box[2:] - a.crop.box[:2] for a in asked]), dtype=torch.float32, device=device)


def searched(pipeline: Pipeline, asked: Sequence[Asked]) -> list[Candidates]:
    """What the library's own search finds."""
    return [pipeline.search(a.maps, box_sizes([a], pipeline.device))[0] for a in asked]


def view_grid(n: int, up: str) -> np.ndarray:
    """PASR's rotations [3n^3, 3, 3] with n elevations, 3n azimuths and n in-plane turns over the ranges of the upright set."""
    elevations = np.linspace(UPRIGHT_ELEVATIONS[0], UPRIGHT_ELEVATIONS[-1], n)
    rolls = np.linspace(UPRIGHT_INPLANE[0], UPRIGHT_INPLANE[-1], n)
    azimuths = np.arange(3 * n) * (2 * np.pi / (3 * n))
    return np.stack([look_at(e, a, t) for e in elevations for a in azimuths for t in rolls]) @ up_rotation(up)


def gridded(pipeline: Pipeline, asked: Sequence[Asked], n: int) -> list[Candidates]:
    """The best pose of every mesh on a grid of 3n^3 views, all scored exactly; the best meshes of each photo."""
    maps = torch.cat([a.maps[:, 0] for a in asked])
    size = box_sizes(asked, pipeline.device)
    best = []
    for i, entry in enumerate(pipeline.library.entries):
        data = pipeline.library.data(i)
        points, features = data.points.to(maps.device), data.features.float().to(maps.device)
        rotations = torch.as_tensor(view_grid(n, entry.up), dtype=torch.float32, device=maps.device)
        header = pipeline.library.header
        templates = build_templates(points, features, rotations, header.view, header.splat)
        best.append(_best_views(maps, size, features, templates, pipeline.config.coarse.outline_weight))
    rotation, similarity, value = (torch.stack(part, 1) for part in zip(*best, strict=True))  # [B, M, ...]
    meshes = torch.arange(len(best))
    found = []
    for b in range(len(asked)):
        order = pipeline.rivals.margin(value[b].cpu(), meshes).argsort(descending=True, stable=True)[:RANKED]
        there = order.to(value.device)
        turn = torch.zeros(len(order), dtype=torch.long, device=value.device)
        found.append(Candidates(order, rotation[b, there], turn, similarity[b, there], value[b, there]))
    return found


def _best_views(
    maps: torch.Tensor, size: torch.Tensor, features: torch.Tensor, templates: Templates, outline_weight: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each photo's best pose of one mesh: rotation [B, 3, 3], similarity [B] and value [B]."""
    similarity = score_many(maps, features, templates)
    value, pose = (similarity - outline_weight * outline_mismatch(templates.outline, size)).max(1)
    return templates.rotation[pose], similarity.gather(1, pose[:, None])[:, 0], value


def ranked(
    pipeline: Pipeline, asked: Sequence[Asked], candidates: Sequence[Candidates], config: RefineConfig
) -> list[Ranked]:
    """The photos' hypotheses after refining their candidates."""
    after = []
    for a, found in zip(asked, candidates, strict=True):
        again = pipeline.search_in([a.crop], a.maps)
        after += pipeline.refine([found], a.maps, [a.crop], config, search=again)
    return [rank(found, pipeline.rivals, pipeline.config.rank, pipeline.config.confidence) for found in after]


def refined(
    pipeline: Pipeline, asked: Sequence[Asked], candidates: Sequence[Candidates], config: RefineConfig
) -> list[Answer]:
    """What is answered of the photos after refining their candidates."""
    found = ranked(pipeline, asked, candidates, config)
    return [_answer(pipeline, a, r) for a, r in zip(asked, found, strict=True)]


def _answer(pipeline: Pipeline, asked: Asked, found: Ranked) -> Answer:
    ids = tuple(pipeline.library.entries[mesh].id for mesh in found.mesh_index)
    try:
        pose = pipeline.placing.place(
            found.mesh_index[0], found.rotation[0], found.displacement[0], asked.crop, asked.camera
        )
    except LiftError:
        return Answer(ids)
    return Answer(ids, pose)


# --- what is varied ------------------------------------------------------------------------------------------------

Scores = dict[str, Any]  # level -> scores
Variants = dict[str, Callable[[], list[Answer]]]


def variants_of(family: str, pipeline: Pipeline, others: Mapping[str, Beside], asked: Sequence[Asked]) -> Variants:
    """Name -> what answers all photos, of one of ABLATED. Raises ValueError for a family that there is not.

    `others`, by name, are what the family `features` compares with.
    """
    default = pipeline.config.refine
    rotation = replace(default, unknowns=3)
    refinements: dict[str, dict[str, RefineConfig]] = {
        "refinement": {
            "initial search": OFF,
            "Newton": replace(default, polish=0),
            "Newton and polish (default)": default,
            "the same, not searched again": replace(default, again=0),
            "the same, no contours": replace(default, contour_weight=0),
            "the same, all cells alike": replace(default, shown_share=0),
            "1 Newton step, 1 polish": replace(default, iterations=1, polish=1),
            "3 Newton steps, 3 polishes": replace(default, iterations=3, polish=3),
        },
        "steps": {"AdamW 0": OFF, **{f"AdamW {n}": RefineConfig(method="adamw", steps=n) for n in STEPS}},
        "unknowns": {
            "rotation": rotation,
            "rotation, 1 Newton step, 3 polishes": replace(rotation, iterations=1, polish=3),
            "and shift, scale (default)": default,
            "and shift, scale, no coverage term": replace(default, coverage_weight=NO_COVERAGE),
        },
    }
    if family in refinements:
        found = cache(lambda: searched(pipeline, asked))
        return {
            name: lambda config=config: refined(pipeline, asked, found(), config)  # type: ignore[misc]
            for name, config in refinements[family].items()
        }
    if family == "features":
        every = {pipeline.library.header.features.kind: Beside(pipeline, asked), **others}
        return {
            name: lambda o=o: refined(o.pipeline, o.asked, searched(o.pipeline, o.asked), default)  # type: ignore[misc]
            for name, o in every.items()
        }
    if family == "views":
        views = cache(partial(gridded, pipeline, asked))
        return {
            f"{3 * n**3} views, {name}": lambda n=n, config=config: refined(pipeline, asked, views(n), config)  # type: ignore[misc]
            for n in GRIDS
            for name, config in {"initial search": OFF, "refined": default}.items()
        }
    raise ValueError(f"family: expected one of {', '.join(ABLATED)}, got {family!r}")


def ablate(
    family: str, pipeline: Pipeline, others: Mapping[str, Beside], asked: Sequence[Asked], tell: Tell
) -> dict[str, Scores]:
    """Variant -> scores of one family, all on the same photos. View grids are scored exactly, mesh by mesh: minutes."""
    variants, table = variants_of(family, pipeline, others, asked), {}
    for done, (name, answers) in enumerate(variants.items()):
        tell(f"{family}: {name}", done, len(variants))
        table[name] = _scores(pipeline, asked, answers())
    return table


def _scores(pipeline: Pipeline, asked: Sequence[Asked], answers: Sequence[Answer]) -> Scores:
    kinds = mesh_kinds(pipeline.library)
    outcomes: list[Outcome] = [outcome_of(a.record, answer, kinds) for a, answer in zip(asked, answers, strict=True)]
    return {
        level: dataclasses.asdict(retrieval_scores(part, kinds))
        for level, part in split_by(outcomes, lambda o: o.level).items()
    }
