"""Any photos as bag frames: images with intrinsics, boxes and, where known, poses, described by one JSON file.

    {"frames": [{
        "image": "0001.png", "K": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], "distortion": [], "stamp_ns": 0,
        "objects": [{"id": "mug", "box": [x_min, y_min, x_max, y_max], "visible_fraction": 1.0, "mesh_id": "mug",
                     "T_cam_obj": [[...], [...], [...], [0, 0, 0, 1]], "center": [x, y, z], "size": [x, y, z]}]}]}

Metres and pixels. Only `image`, `K` and each object's `box` must be there; an object without `T_cam_obj` is a detection
without truth. A folder with a `ground_truth.json` (one frame, mesh beside it, boxes x, y, w, h) is read too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pasr_perception.data.annotation import (
    DatasetError,
    box_from_xywh,
    numbers,
    plain_name,
    read_image,
    read_json,
    reading,
    unit_quaternion,
)
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.geometry.se3 import is_rotation, make_T, rotation_from_quaternion_xyzw
from pasr_perception.library.meshes import load_mesh
from pasr_perception.types import Camera, Detection, Frame

START_NS = 1_700_000_000 * 10**9
FRAME_ID = "camera_optical_frame"
FRAME_KEYS = {"image", "K", "distortion", "stamp_ns", "objects"}
OBJECT_KEYS = {"id", "box", "visible_fraction", "mesh_id", "T_cam_obj", "center", "size"}
DISTORTION_COUNTS = (0, 4, 5, 8)


def read_annotated(folder: str | Path, annotations: str | Path, rate_hz: float = 1.0) -> Iterator[BagFrame]:
    """The frames that the JSON file `annotations` describes, images lying in `folder`. Raises DatasetError.

    Objects with a pose become truths (detections are made from them by `detector.detect`), the others detections.
    """
    folder, path = Path(folder), Path(annotations)
    data = read_json(path)
    if not isinstance(data, Mapping) or not isinstance(data.get("frames"), list):
        raise DatasetError(f'{path}: expected {{"frames": [...]}}')
    for index, entry in enumerate(data["frames"]):
        with reading(f"{path}: frames[{index}]"):
            item = _frame(folder, entry, START_NS + round(index * 1e9 / rate_hz))
        yield item


def _frame(folder: Path, entry: Mapping[str, Any], stamp_ns: int) -> BagFrame:
    _known(entry, FRAME_KEYS)
    image = read_image(folder / plain_name(entry["image"]))
    distortion = np.asarray(entry.get("distortion", []), float)
    if distortion.ndim != 1 or len(distortion) not in DISTORTION_COUNTS:
        raise ValueError(f"distortion: expected {DISTORTION_COUNTS} numbers, got {entry['distortion']!r}")
    camera = Camera(image.shape[1], image.shape[0], numbers(entry["K"], (3, 3)), distortion)
    truths, extra = [], []
    for index, item in enumerate(entry.get("objects", [])):
        _known(item, OBJECT_KEYS)
        name = str(item.get("id", index))
        box = numbers(item["box"], (4,))
        if (box[2:] <= box[:2]).any():
            raise ValueError(f"object {name}: box: expected x_min < x_max and y_min < y_max, got {box.tolist()}")
        if "T_cam_obj" not in item:
            extra.append(Detection(box, 1.0, "", name))
            continue
        T = numbers(item["T_cam_obj"], (4, 4))
        if not is_rotation(T[:3, :3], 1e-3):
            raise ValueError(f"object {name}: T_cam_obj: expected a rigid transform, got {T.tolist()}")
        center, size = (numbers(item.get(key, [0, 0, 0]), (3,)) for key in ("center", "size"))
        visible = float(item.get("visible_fraction", 1.0))
        truths.append(Truth(name, str(item["mesh_id"]), T, box, visible, center, size))
    return BagFrame(Frame(image, camera, int(entry.get("stamp_ns", stamp_ns)), FRAME_ID), tuple(extra), tuple(truths))


def read_single(folder: str | Path) -> BagFrame:
    """The one photo that `folder`/ground_truth.json describes. Raises DatasetError.

    An object's `T_cam_obj` is the pose of its mesh's own frame, or of the middle of its bounds where `mesh_note` says
    that the centre of the bounding box is to be subtracted first.
    """
    folder = Path(folder)
    path = folder / "ground_truth.json"
    data = read_json(path)
    with reading(str(path)):
        image = read_image(folder / plain_name(data["image"]))
        camera = Camera(image.shape[1], image.shape[0], numbers(data["K"], (3, 3)))
        truths = tuple(_single_truth(folder, entry) for entry in data["objects"])
        others = data.get("other_boxes_without_mesh_xywh", {})
        extra = tuple(Detection(box_from_xywh(box), 1.0, "", name) for name, box in others.items())
    return BagFrame(Frame(image, camera, START_NS, FRAME_ID), extra, truths)


def _single_truth(folder: Path, entry: Any) -> Truth:
    pose, mesh_file = entry["T_cam_obj"], folder / plain_name(entry["mesh"])
    rotation = rotation_from_quaternion_xyzw(unit_quaternion(pose["quaternion_xyzw"]))
    T = make_T(rotation, numbers(pose["position_m"], (3,)))
    mesh = load_mesh(mesh_file, 1.0)
    center, size = np.asarray(mesh.bounds.mean(0)), np.asarray(mesh.extents)
    if "subtract the centre of its bounding box" in entry.get("mesh_note", ""):
        T = T @ make_T(np.eye(3), -center)
    return Truth(str(entry["name"]), mesh_file.stem, T, box_from_xywh(entry["bbox_visible_xywh"]), 1.0, center, size)


def _known(entry: Any, keys: set[str]) -> None:
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected a mapping with keys of {', '.join(sorted(keys))}, got {entry!r}")
    unknown = sorted(set(entry) - keys)
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}; known are {', '.join(sorted(keys))}")
