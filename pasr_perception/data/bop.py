"""Real photos with known poses in the layout of the BOP benchmark (Hodan et al.).

BOP is in millimetres; here alone they become metres. A BOP scene folder holds scene_camera.json, scene_gt.json,
scene_gt_info.json and rgb/ (gray/ where there is no colour; depth/ where there is depth); models/ lies beside the split's
folder or above it. Symmetries are read as models_info.json lists them, continuous ones in steps as bop_toolkit takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from pasr_perception.data.annotation import DatasetError, numbers, read_image, read_json, reading
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.geometry.camera import HALF_A_PIXEL
from pasr_perception.geometry.se3 import is_rotation, make_T
from pasr_perception.types import Camera, Frame

MM = 1e-3
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
IMAGE_FOLDERS = ("rgb", "gray")
FRAME_ID = "camera_optical_frame"
SYMMETRY_STEP = 0.01  # of the diameter: how far a continuous symmetry's steps may move a point of the surface


@dataclass(frozen=True)
class BopModel:
    """What models_info.json says of one model, metres, in its own axes."""

    center: np.ndarray  # [3]
    size: np.ndarray  # [3]
    diameter: float = 0.0  # largest distance of two vertices; 0 = not said
    symmetries: np.ndarray = field(default_factory=lambda: np.eye(4)[None])  # [S, 4, 4] T_obj_obj that change nothing


def bop_scenes(root: Path) -> list[Path]:
    """The scene folders at or below `root` (a scene, a split, or a data set), sorted."""
    if (root / "scene_gt.json").is_file():
        return [root]
    scenes = sorted(p.parent for depth in ("*", "*/*") for p in root.glob(f"{depth}/scene_gt.json"))
    if not scenes:
        raise DatasetError(f"{root}: expected BOP scenes (folders with scene_gt.json), found none")
    return scenes


def bop_models(root: Path) -> dict[int, BopModel]:
    """Model sizes by obj_id from models/models_info.json at `root` or up to two folders above; empty without one."""
    for folder in (root, *list(root.resolve().parents)[:2]):
        path = folder / "models" / "models_info.json"
        if path.is_file():
            return {int(key): _model(value, f"{path}: {key}") for key, value in read_json(path).items()}
    return {}


def mesh_name(obj_id: int) -> str:
    """The mesh id of a BOP object: its file's stem."""
    return f"obj_{obj_id:06d}"


@dataclass(frozen=True)
class BopReader:
    """Frames of a BOP data set in the order of scenes and images.

    amodal: boxes around the whole object (bbox_obj) instead of its visible part (bbox_visib).
    """

    root: Path
    amodal: bool = False
    rate_hz: float = 1.0
    start_ns: int = 1_700_000_000 * 10**9

    def depths(self) -> Iterator[np.ndarray | None]:
        """Depth [H, W] float32 metres, 0 = unknown, of each frame in the order of the frames; None where it has none."""
        for scene in bop_scenes(self.root):
            cameras = read_json(scene / "scene_camera.json")
            with reading(str(scene / "scene_gt.json")):
                keys = sorted(read_json(scene / "scene_gt.json"), key=int)
            for key in keys:
                path = scene / "depth" / f"{int(key):06d}.png"
                image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
                with reading(f"{scene}: image {int(key):06d}"):
                    scale = float(cameras[key].get("depth_scale", 1.0)) * MM
                yield None if image is None else image.astype(np.float32) * np.float32(scale)

    def __iter__(self) -> Iterator[BagFrame]:
        models, number = bop_models(self.root), 0
        for scene in bop_scenes(self.root):
            cameras, poses = read_json(scene / "scene_camera.json"), read_json(scene / "scene_gt.json")
            infos = read_json(scene / "scene_gt_info.json")
            with reading(str(scene / "scene_gt.json")):
                keys = sorted(poses, key=int)
            for key in keys:
                stamp = self.start_ns + round(number * 1e9 / self.rate_hz)
                yield self._frame(scene, int(key), (cameras, poses, infos), models, stamp)
                number += 1

    def _frame(
        self, scene: Path, image_id: int, tables: tuple[Any, Any, Any], models: Mapping[int, BopModel], stamp_ns: int
    ) -> BagFrame:
        with reading(f"{scene}: image {image_id:06d}"):
            camera_entry, objects, infos = (table[str(image_id)] for table in tables)
            image = read_image(_image_path(scene, image_id))
            camera = Camera(image.shape[1], image.shape[0], numbers(camera_entry["cam_K"], (3, 3)) + HALF_A_PIXEL)
            truths = tuple(
                self._truth(f"{scene.name}_{index:02d}", entry, info, models)
                for index, (entry, info) in enumerate(zip(objects, infos, strict=True))
            )
        return BagFrame(Frame(image, camera, stamp_ns, FRAME_ID), (), truths)

    def _truth(self, name: str, entry: Any, info: Any, models: Mapping[int, BopModel]) -> Truth:
        R, t = numbers(entry["cam_R_m2c"], (3, 3)), numbers(entry["cam_t_m2c"], (3,)) * MM
        if not is_rotation(R, 1e-3):
            raise ValueError(f"object {name}: cam_R_m2c: expected a rotation, got {R.tolist()}")
        obj_id = int(entry["obj_id"])
        x, y, w, h = numbers(info["bbox_obj" if self.amodal else "bbox_visib"], (4,))
        # BOP marks an object that cannot be seen by -1
        box = np.array([x, y, x + w, y + h]) if w > 0 and h > 0 else None
        visible = float(info["visib_fract"] if "visib_fract" in info else info["visib_fract_rendered"])
        model = models.get(obj_id, BopModel(np.zeros(3), np.zeros(3)))
        return Truth(
            name, mesh_name(obj_id), make_T(R, t), box, visible if box is not None else 0.0, model.center, model.size
        )


def _model(value: Any, where: str) -> BopModel:
    with reading(where):
        low = numbers([value[f"min_{a}"] for a in "xyz"], (3,)) * MM
        size = numbers([value[f"size_{a}"] for a in "xyz"], (3,)) * MM
        diameter = float(value.get("diameter", 0.0)) * MM
        symmetries = _symmetries(value)
    return BopModel(low + size / 2, size, diameter, symmetries)


def _symmetries(value: Mapping[str, Any]) -> np.ndarray:
    """All transforms [S, 4, 4] that leave a model as it is: discrete ones times the steps of continuous ones."""
    discrete = [np.eye(4)]
    for entry in value.get("symmetries_discrete", []):
        T = numbers(entry, (4, 4))
        if not is_rotation(T[:3, :3], 1e-3):
            raise ValueError(f"symmetries_discrete: expected rigid transforms, got {T.tolist()}")
        discrete.append(make_T(T[:3, :3], T[:3, 3] * MM))
    turns = [np.eye(4)]
    # an n-step circle moves a point on the equator of the bounding sphere by pi / n of the diameter
    steps = math.ceil(math.pi / SYMMETRY_STEP)
    for entry in value.get("symmetries_continuous", []):
        axis, offset = numbers(entry["axis"], (3,)), numbers(entry["offset"], (3,)) * MM
        if not np.linalg.norm(axis) > 0:
            raise ValueError(f"symmetries_continuous: expected an axis of some length, got {axis.tolist()}")
        for R in Rotation.from_rotvec(np.outer(np.arange(1, steps) * 2 * math.pi / steps, axis / np.linalg.norm(axis))):
            matrix = R.as_matrix()
            turns.append(make_T(matrix, offset - matrix @ offset))
    return np.stack([T @ turn for T in discrete for turn in turns])


def _image_path(scene: Path, image_id: int) -> Path:
    for folder in IMAGE_FOLDERS:
        for suffix in IMAGE_SUFFIXES:
            path = scene / folder / f"{image_id:06d}{suffix}"
            if path.is_file():
                return path
    raise DatasetError(f"{scene / 'rgb'}: expected {image_id:06d} with one of {', '.join(IMAGE_SUFFIXES)}, found none")
