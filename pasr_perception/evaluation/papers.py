"""The papers' data sets, Pix3D and Pascal3D+: retrieval with pose, and how near the retrieved shape comes to the true one.

Boxes are the annotated ones, of objects that are whole, as in PASR's tables; objects whose mesh the library lacks are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pasr_perception.data.pascal3d import Pascal3dReader
from pasr_perception.data.pix3d import Pix3dReader
from pasr_perception.data.records import BagFrame
from pasr_perception.evaluation.methods import Method
from pasr_perception.evaluation.retrieval import MeshKind, Outcome, retrieval_scores, rotation_error_deg, split_by
from pasr_perception.evaluation.shape_metrics import modified_hausdorff, solid_voxels, voxel_iou
from pasr_perception.evaluation.synthetic import OVERALL, mesh_kinds
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.sample import normalised
from pasr_perception.library.store import MeshLibrary
from pasr_perception.types import Detection

DATA_SETS = ("pix3d", "pascal3d")
KEPT_VOXELS = 64  # grids of 2 MB each
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ShapeMatch:
    """Two normalised shapes beside each other."""

    modified_hausdorff: float
    iou: float  # of solids at 128^3


class ShapeJudge:
    """Compares meshes of one library; each pair once."""

    def __init__(self, library: MeshLibrary) -> None:
        self._library = library
        self._matches: dict[tuple[str, str], ShapeMatch] = {}
        self._voxels = lru_cache(KEPT_VOXELS)(lambda mesh_id: solid_voxels(normalised(library.load_mesh(mesh_id))))

    def match(self, found: str, true: str) -> ShapeMatch:
        if (found, true) not in self._matches:
            a, b = (self._library.data(self._library.index_of(i)).points.numpy() for i in (found, true))
            iou = voxel_iou(self._voxels(found), self._voxels(true))
            self._matches[found, true] = ShapeMatch(modified_hausdorff(a, b), iou)
        return self._matches[found, true]


def paper_data(name: str, root: Path) -> tuple[Iterable[BagFrame], list[MeshSource]]:
    """Photos and models of the data set of that name. Raises ValueError for a name that there is not."""
    if name == "pix3d":
        pix3d = Pix3dReader(root)
        return pix3d, pix3d.sources()
    if name == "pascal3d":
        pascal3d = Pascal3dReader(root)
        return pascal3d, pascal3d.meshes()
    raise ValueError(f"data set: expected one of {', '.join(DATA_SETS)}, got {name!r}")


def judge_papers(
    photos: Iterable[BagFrame], library: MeshLibrary, method: Method, tell: Tell | None = None
) -> list[Outcome]:
    """What the method says of every annotated object whose mesh is in the library. Raises ValueError for none."""
    kinds, outcomes = mesh_kinds(library), []
    for number, item in enumerate(photos):
        if tell is not None:
            tell(f"photo {number}", number, 0)
        truths = [t for t in item.truths if t.mesh_id in kinds and t.box is not None]
        detections = [Detection(t.box, id=t.id) for t in truths if t.box is not None]
        answers = method.ask(item.frame, detections) if detections else []
        for truth, answer in zip(truths, answers, strict=True):
            error = rotation_error_deg(answer.pose, truth.T_cam_obj, kinds[truth.mesh_id].symmetry)
            outcomes.append(Outcome(truth.id, truth.mesh_id, "", "", answer.mesh_ids, error))
    if not outcomes:
        raise ValueError("photos: expected some of the library's meshes, found none")
    return outcomes


def papers_report(outcomes: Sequence[Outcome], library: MeshLibrary) -> dict[str, dict[str, Any]]:
    """Plain data: part (all, then each category) -> scores. Shapes are means over the objects that got an answer."""
    kinds, judge = mesh_kinds(library), ShapeJudge(library)
    parts = {OVERALL: list(outcomes), **split_by(outcomes, lambda o: kinds[o.truth_id].category)}
    return {name: _scores(part, kinds, judge) for name, part in parts.items()}


def _scores(part: Sequence[Outcome], kinds: Mapping[str, MeshKind], judge: ShapeJudge) -> dict[str, Any]:
    matches = [judge.match(o.ranked[0], o.truth_id) for o in part if o.ranked]
    return {
        **dataclasses.asdict(retrieval_scores(part, kinds)),
        "modified_hausdorff": float(np.mean([m.modified_hausdorff for m in matches])) if matches else None,
        "iou_128": float(np.mean([m.iou for m in matches])) if matches else None,
    }
