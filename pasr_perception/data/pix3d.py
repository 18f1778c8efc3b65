"""Pix3D (Sun et al. 2018): photos of furniture with the pose of an exact CAD model, from pix3d.json.

Pix3D's camera is Blender's turned to look along +z: x points left and y up, so T_cam_obj is its pose with both turned over. The
focal length is in millimetres of a sensor 32 mm wide. Models are in units of their own, not metres: translations are in those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pasr_perception.data.annotation import DatasetError, numbers, read_image, read_json, reading
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.geometry.se3 import is_rotation, make_T
from pasr_perception.library.manifest import MeshSource, clean_id
from pasr_perception.types import Camera, Frame

SENSOR_MM = 32.0
TO_OPTICAL = np.diag([-1.0, -1.0, 1.0])
FRAME_ID = "camera_optical_frame"
CREATOR, LICENCE = "Pix3D", "see the data set"


def pix3d_mesh_id(model: str) -> str:
    """The mesh id of a model's path, e.g. `model/bed/IKEA_BEDDINGE/model.obj` -> `bed-IKEA_BEDDINGE-model`."""
    parts = Path(model).with_suffix("").parts
    return clean_id("-".join(parts[1:] if parts[:1] == ("model",) else parts))


@dataclass(frozen=True)
class Pix3dReader:
    """The photos of pix3d.json, one object each, in its order. Raises DatasetError.

    whole_only: leave out objects that are truncated or occluded, as PASR's tables of unoccluded ones do. categories: empty = all.
    """

    root: Path
    whole_only: bool = True
    categories: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[BagFrame]:
        for number, entry in self._entries():
            with reading(f"{self.root / 'pix3d.json'}: entry {number}"):
                frame = self._frame(number, entry)
            yield frame

    def sources(self) -> list[MeshSource]:
        """The models that the photos show, for a library; upright, +y up, colours not those of the photos."""
        found: dict[str, MeshSource] = {}
        for number, entry in self._entries():
            with reading(f"{self.root / 'pix3d.json'}: entry {number}"):
                mesh_id, path = pix3d_mesh_id(entry["model"]), _below(self.root, entry["model"])
                category = str(entry["category"])
                found.setdefault(
                    mesh_id,
                    MeshSource(mesh_id, category, path, 1.0, LICENCE, CREATOR, "unknown", "upright", "+y"),
                )
        return list(found.values())

    def _entries(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        path = self.root / "pix3d.json"
        data = read_json(path)
        if not isinstance(data, list):
            raise DatasetError(f"{path}: expected a list of photos, got {type(data).__name__}")
        for number, entry in enumerate(data):
            if not isinstance(entry, Mapping):
                raise DatasetError(f"{path}: entry {number}: expected a mapping, got {entry!r}")
            cut = any(entry.get(name) for name in ("truncated", "occluded", "slightly_occluded"))
            if (self.categories and entry.get("category") not in self.categories) or (self.whole_only and cut):
                continue
            yield number, entry

    def _frame(self, number: int, entry: Mapping[str, Any]) -> BagFrame:
        image = read_image(_below(self.root, entry["img"]))
        height, width = image.shape[:2]
        focal = float(entry["focal_length"]) / SENSOR_MM * width
        camera = Camera(width, height, np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]))
        R, t = numbers(entry["rot_mat"], (3, 3)), numbers(entry["trans_mat"], (3,))
        if not is_rotation(R, 1e-3):
            raise ValueError(f"rot_mat: expected a rotation, got {R.tolist()}")
        box = numbers(entry["bbox"], (4,))
        truth = Truth(str(number), pix3d_mesh_id(entry["model"]), make_T(TO_OPTICAL @ R, TO_OPTICAL @ t), box=box)
        return BagFrame(Frame(image, camera, number, FRAME_ID), (), (truth,))


def _below(root: Path, relative: Any) -> Path:
    path = root / str(relative)
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"path: expected one inside {root}, got {relative!r}")
    return path
