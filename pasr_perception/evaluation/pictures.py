"""Pictures of what the method does: point features across a category, retrieval strips as PASR's figure 3, failures with causes.

A strip shows a photo's crop and the best meshes at their poses. A failure is a wrong mesh, or the right one turned by more than 30
degrees; its cause is the first that holds of CAUSES, so that it says what is known of the photo, not what one would like.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

from pasr_perception.data.synthetic.photo_set import PhotoRecord
from pasr_perception.evaluation.ablation import Asked, ranked, searched
from pasr_perception.evaluation.overlay import Colour
from pasr_perception.evaluation.page import RIGHT, WRONG
from pasr_perception.evaluation.retrieval import MeshKind, rotation_error_deg
from pasr_perception.evaluation.same_picture import SamePicture
from pasr_perception.evaluation.synthetic import mesh_kinds
from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.viewpoints import look_at, up_rotation
from pasr_perception.library.files import write_atomically
from pasr_perception.library.sample import normalised
from pasr_perception.library.store import MeshLibrary
from pasr_perception.library.views import ViewRenderer
from pasr_perception.pipeline import Pipeline
from pasr_perception.rank import Ranked

TILE = 168  # pixels a side
TEXT = 16  # pixels of a line
INK: Colour = (40, 40, 40)
JPEG_QUALITY = 85
SHOWN = 5  # meshes of a strip
FAILURES = 12  # of the gallery at most
GAP = 12  # pixels between columns
TURNED_DEG, BACK_DEG = 30.0, 150.0
MUCH_HIDDEN = 0.2  # of the object
CAUSES = {  # in the order in which they are tried
    "front for back": "the right mesh, turned by more than 150°",
    "turned": "the right mesh, turned by 30° to 150°",
    "same picture": "another mesh that gives the same picture in some pose: nobody could tell",
    "look-alike": "another mesh of its group of look-alikes",
    "much hidden": "more than 20 % of the object is hidden",
    "other colours": "the object wears other colours in the photo than in the library",
    "same category": "another mesh of its category",
    "bare mesh": "the library knows no colours of the mesh",
    "none of these": "a mesh of another category, in a photo that has nothing against it",
}
FEATURE_VIEWS = ((0.45, 0.7), (0.45, -0.7))  # elevation and azimuth: the same surface from its left and its right


# --- point features ------------------------------------------------------------------------------------------------


def principal_colours(features: torch.Tensor) -> np.ndarray:
    """Three leading principal components of features [N, D] as colours [N, 3] uint8, 2 % of each end cut off."""
    centred = features.double() - features.double().mean(0)
    directions = torch.linalg.eigh(centred.T @ centred)[1][:, -3:].flip(1)
    directions = directions * directions.sum(0).sign()  # a sign of its own would differ from machine to machine
    shown = centred @ directions
    low, high = torch.quantile(shown, 0.02, 0), torch.quantile(shown, 0.98, 0)
    return (((shown - low) / (high - low).clamp(min=1e-9)).clamp(0, 1) * 255).round().byte().numpy()


def draw_points(points: np.ndarray, colours: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Points [N, 3] of a normalised mesh as discs, nearest last: a tile."""
    turned = points @ rotation.T
    tile = np.full((TILE, TILE, 3), 255, np.uint8)
    at = (turned[:, :2] * 0.46 + 0.5) * TILE
    for i in np.argsort(-turned[:, 2]).tolist():
        cv2.circle(tile, (round(at[i, 0]), round(at[i, 1])), 2, colours[i].tolist(), cv2.FILLED, cv2.LINE_AA)
    return tile


def feature_sheet(library: MeshLibrary, categories: Sequence[str], most: int = 5) -> np.ndarray:
    """A row for each category: its meshes, each from both sides, coloured by principal components shared within the row."""
    rows = []
    for category in categories:
        meshes = [i for i, entry in enumerate(library.entries) if entry.category == category][:most]
        if not meshes:
            raise ValueError(f"categories: expected categories of {library.path}, got {category!r}")
        data = [library.data(i) for i in meshes]
        colours = principal_colours(torch.cat([d.features.float() for d in data]))
        tiles = []
        for i, d, mine in zip(
            meshes, data, np.split(colours, np.cumsum([len(d.points) for d in data])[:-1]), strict=True
        ):
            up = up_rotation(library.entries[i].up)
            both = [draw_points(d.points.numpy(), mine, look_at(*view) @ up) for view in FEATURE_VIEWS]
            tiles.append(captioned(np.concatenate(both, 1), library.entries[i].id))
        rows.append(np.concatenate(tiles, 1))
    return stacked(rows)


# --- retrieval -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """One photo with the meshes that were found for it."""

    asked: Asked
    ranking: Ranked
    rotation_deg: float | None  # error of the best one's rotation


def found_in(pipeline: Pipeline, asked: Sequence[Asked]) -> list[Found]:
    """Search and refinement as configured."""
    kinds = mesh_kinds(pipeline.library)
    rankings = ranked(pipeline, asked, searched(pipeline, asked), pipeline.config.refine)
    found = []
    for a, ranking in zip(asked, rankings, strict=True):
        turned = make_T(a.crop.R_cam_crop @ ranking.rotation[0].cpu().double().numpy(), np.zeros(3))
        error = rotation_error_deg(turned, a.record.pose, kinds[a.record.mesh_id].symmetry)
        found.append(Found(a, ranking, error))
    return found


def cause_of(
    found: Found, library: MeshLibrary, kinds: Mapping[str, MeshKind], same: Callable[[PhotoRecord, str], bool]
) -> str:
    """Why it may have failed: the first of CAUSES that holds, from what is known of photo and meshes; "" where it did not.

    `same` says whether another mesh gives the same picture as a photo's own (`same_picture.SamePicture`).
    """
    record, best = found.asked.record, library.entries[found.ranking.mesh_index[0]].id
    true, other = kinds[record.mesh_id], kinds[best]
    if best == record.mesh_id:
        if found.rotation_deg is None or found.rotation_deg <= TURNED_DEG:
            return ""
        return "front for back" if found.rotation_deg > BACK_DEG else "turned"
    if same(record, best):
        return "same picture"
    if true.group is not None and true.group == other.group:
        return "look-alike"
    if record.hidden > MUCH_HIDDEN:
        return "much hidden"
    if record.look != "own":
        return "other colours"
    if true.category == other.category:
        return "same category"
    coloured = library.entries[library.index_of(record.mesh_id)].appearance == "known"
    return "none of these" if coloured else "bare mesh"


def samples(failures: Mapping[str, Sequence[Found]], most: int) -> list[tuple[Found, str]]:
    """Up to so many failures with their causes: of each cause, in the order of CAUSES, one, then another."""
    rounds = itertools.zip_longest(*([(f, cause) for f in failures[cause]] for cause in CAUSES if cause in failures))
    picked = [one for one in itertools.chain.from_iterable(rounds) if one is not None][:most]
    return sorted(picked, key=lambda one: list(CAUSES).index(one[1]))


class Tiles:
    """Draws meshes of a library at crop poses."""

    def __init__(self, library: MeshLibrary) -> None:
        self._library = library
        self._renderer = lru_cache(maxsize=64)(self._make)

    def _make(self, mesh_id: str) -> ViewRenderer:
        return ViewRenderer(normalised(self._library.load_mesh(mesh_id)), self._library.header.view, TILE, 2)

    def mesh(self, mesh_id: str, R_crop_obj: np.ndarray, border: Colour) -> np.ndarray:
        tile = self._renderer(mesh_id).render(R_crop_obj, np.ones(3)).image.copy()
        cv2.rectangle(tile, (1, 1), (TILE - 2, TILE - 2), border, 3)
        return captioned(tile, mesh_id)

    def photo(self, asked: Asked, text: str) -> np.ndarray:
        crop = np.ascontiguousarray(asked.crop.image).copy()
        low, high = (tuple(int(x) for x in np.round(asked.crop.box[k : k + 2])) for k in (0, 2))
        cv2.rectangle(crop, low, high, (255, 255, 255), 2)
        return captioned(cv2.resize(crop, (TILE, TILE), interpolation=cv2.INTER_AREA), text)


def strip(found: Found, tiles: Tiles, library: MeshLibrary) -> np.ndarray:
    """One photo and its best meshes at their poses, green where it is the right one."""
    record, row = (
        found.asked.record,
        [tiles.photo(found.asked, f"{found.asked.record.level}: {found.asked.record.mesh_id}")],
    )
    for mesh, rotation in list(zip(found.ranking.mesh_index, found.ranking.rotation, strict=True))[:SHOWN]:
        name = library.entries[mesh].id
        row.append(tiles.mesh(name, rotation.cpu().double().numpy(), RIGHT if name == record.mesh_id else WRONG))
    empty = np.full_like(row[0], 255)
    return np.concatenate([*row, *[empty] * (SHOWN + 1 - len(row))], 1)


def failure(found: Found, tiles: Tiles, library: MeshLibrary, cause: str) -> np.ndarray:
    """Photo, truth and answer of a failure, with its cause."""
    record = found.asked.record
    R_crop_obj = found.asked.crop.R_cam_crop.T @ record.pose[:3, :3]
    best = library.entries[found.ranking.mesh_index[0]].id
    answer = tiles.mesh(best, found.ranking.rotation[0].cpu().double().numpy(), WRONG)
    truth = tiles.mesh(record.mesh_id, R_crop_obj, RIGHT)
    return np.concatenate([tiles.photo(found.asked, f"{record.level}: {cause}"), truth, answer], 1)


# --- sheets --------------------------------------------------------------------------------------------------------


def captioned(tile: np.ndarray, text: str) -> np.ndarray:
    """A tile with a line of text under it, cut to its width."""
    line = np.full((TEXT, tile.shape[1], 3), 255, np.uint8)
    cv2.putText(line, text[: tile.shape[1] // 7], (3, TEXT - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, INK, 1, cv2.LINE_AA)
    return np.concatenate([tile, line])


def stacked(rows: Sequence[np.ndarray], columns: int = 1) -> np.ndarray:
    """Rows under one another, in so many columns with a gap between, on white."""
    if not rows:
        raise ValueError("rows: expected at least one picture, got none")
    height, width = (max(row.shape[k] for row in rows) for k in (0, 1))
    sheet = np.full((math.ceil(len(rows) / columns) * height, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        top, left = i // columns * height, i % columns * (width + GAP)
        sheet[top : top + row.shape[0], left : left + row.shape[1]] = row
    return sheet


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write an RGB image as JPEG."""
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert ok
    write_atomically(path, lambda temporary: temporary.write_bytes(data.tobytes()))


def write_pictures(
    out: Path, pipeline: Pipeline, asked: Sequence[Asked], categories: Sequence[str], strips: int
) -> Counter[str]:
    """features.jpg, strips.jpg of so many photos evenly from all, failures.jpg where there are any; how often which cause."""
    library, tiles, kinds = pipeline.library, Tiles(pipeline.library), mesh_kinds(pipeline.library)
    found = found_in(pipeline, asked)
    failures: dict[str, list[Found]] = {}
    same = SamePicture(library)
    for one in found:
        failures.setdefault(cause_of(one, library, kinds, same), []).append(one)
    causes = Counter({cause: len(failures.get(cause, ())) for cause in ("", *CAUSES)})
    shown = [found[int(i)] for i in np.linspace(0, len(found) - 1, min(strips, len(found)))]
    gallery = [failure(one, tiles, library, cause) for one, cause in samples(failures, FAILURES)]
    out.mkdir(parents=True, exist_ok=True)
    write_picture(out / "features.jpg", feature_sheet(library, categories))
    write_picture(out / "strips.jpg", stacked([strip(one, tiles, library) for one in shown]))
    if gallery:
        write_picture(out / "failures.jpg", stacked(gallery, columns=2))
    return causes
