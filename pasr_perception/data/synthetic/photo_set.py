"""A set of synthetic photos on disk, checksummed, in a layout that a killed writer leaves usable.

    photos.json          format, version, seed, spec, the levels, and every mesh: id, category, source path, unit, up, upright
    photos.jsonl         one line per photo, written after its files (`PhotoRecord`; each file with its SHA-256)
    rgb/NAME.jpg         the photo
    mask/NAME.png        8 bit: 255 the visible object, 128 its hidden part, 0 elsewhere
    depth/NAME.png       16 bit: depth of whatever is seen, `depth_scale` metres per step, 0 = further than that reaches
    noc/NAME.png         3 x 16 bit, R G B = x y z of the visible object in its normalised frame, (p + 1) / 2 * 65535; 0 elsewhere

NAME is MESH_LEVEL_NUMBER. Depth and NOC are of the upper left quarter of each pixel, at (u + 0.25, v + 0.25).
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pasr_perception.data.annotation import DatasetError, numbers, read_image, read_json, reading
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.data.synthetic.compose import SyntheticPhoto
from pasr_perception.library.files import append_durably, sha256_of, write_atomically
from pasr_perception.types import Camera, Frame

log = logging.getLogger(__name__)

FORMAT, VERSION = "pasr-photos", 1
HEADER, LINES = "photos.json", "photos.jsonl"
LAYERS = {"rgb": ".jpg", "mask": ".png", "depth": ".png", "noc": ".png"}
ALWAYS = ("rgb", "mask")  # layers that every photo has
JPEG_QUALITY = 95
VISIBLE, HIDDEN = 255, 128
QUARTER = 0.25  # of a pixel: where depth and NOC were taken
FRAME_ID = "camera_optical_frame"


@dataclass(frozen=True)
class PhotoMesh:
    """A mesh that photos show."""

    id: str
    category: str
    path: str
    unit: float
    up: str
    upright: bool


@dataclass(frozen=True)
class PhotoRecord:
    """One photo's annotation: pixels and metres, poses and boxes in the project's conventions."""

    name: str
    mesh_id: str
    level: str
    hidden: float
    truncated: float
    look: str
    occluders: tuple[str, ...]
    width: int
    height: int
    K: tuple[float, ...]  # [9] row by row
    T_cam_obj: tuple[float, ...]  # [16] row by row
    box_visible: tuple[float, ...]  # [4] xyxy around what is seen
    box_whole: tuple[float, ...]  # [4] xyxy around all of it within the image
    center: tuple[float, ...]  # [3] of the mesh's bounds, metres
    size: tuple[float, ...]  # [3] of those bounds, metres
    depth_scale: float  # metres per step
    files: Mapping[str, str]  # layer -> SHA-256

    @property
    def camera(self) -> Camera:
        return Camera(self.width, self.height, np.array(self.K).reshape(3, 3))

    @property
    def pose(self) -> np.ndarray:
        """T_cam_obj [4, 4]."""
        return np.array(self.T_cam_obj).reshape(4, 4)


def mask_box(mask: np.ndarray) -> np.ndarray:
    """xyxy [4] pixels around a mask [H, W] that is not empty."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def noc_image(photo: SyntheticPhoto, center: np.ndarray, radius: float) -> np.ndarray:
    """Normalised object coordinates [H, W, 3] uint16 of the visible object, 0 elsewhere."""
    rows, columns = np.nonzero(photo.visible)
    K, T = photo.camera.K, photo.T_cam_obj
    z = photo.depth[rows, columns]
    x = (columns + QUARTER - K[0, 2]) / K[0, 0] * z
    y = (rows + QUARTER - K[1, 2]) / K[1, 1] * z
    points = (np.stack([x, y, z], -1) - T[:3, 3]) @ T[:3, :3]
    noc = np.zeros((*photo.visible.shape, 3), np.uint16)
    noc[rows, columns] = np.round(np.clip(((points - center) / radius + 1) / 2, 0, 1) * 65535)
    return noc


def write_photo(
    root: Path, name: str, mesh: PhotoMesh, level: str, photo: SyntheticPhoto, bounds: np.ndarray, layers: Sequence[str]
) -> PhotoRecord:
    """Write one photo's files, each in one step, and return its annotation; `bounds` [2, 3] are the mesh's, metres."""
    center, size = bounds.mean(0), bounds[1] - bounds[0]
    depth_scale = float(photo.depth.max()) / 65000
    mask = np.where(photo.visible, VISIBLE, np.where(photo.whole, HIDDEN, 0)).astype(np.uint8)
    images = {
        "rgb": photo.image[..., ::-1],
        "mask": mask,
        "depth": np.round(photo.depth / depth_scale).astype(np.uint16),
        "noc": noc_image(photo, center, float(np.linalg.norm(size)) / 2)[..., ::-1] if "noc" in layers else mask,
    }
    files = {}
    for layer in layers:
        path = layer_path(root, name, layer)
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if LAYERS[layer] == ".jpg" else []
        ok, data = cv2.imencode(LAYERS[layer], images[layer], options)
        assert ok, layer
        write_atomically(path, partial(_write_bytes, data.tobytes()))
        files[layer] = sha256_of(path)
    return PhotoRecord(
        name=name,
        mesh_id=mesh.id,
        level=level,
        hidden=photo.hidden,
        truncated=photo.truncated,
        look=photo.look,
        occluders=photo.occluders,
        width=photo.camera.width,
        height=photo.camera.height,
        K=tuple(photo.camera.K.reshape(-1).tolist()),
        T_cam_obj=tuple(photo.T_cam_obj.reshape(-1).tolist()),
        box_visible=tuple(mask_box(photo.visible).tolist()),
        box_whole=tuple(mask_box(photo.whole).tolist()),
        center=tuple(center.tolist()),
        size=tuple(size.tolist()),
        depth_scale=depth_scale,
        files=files,
    )


def _write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def layer_path(root: Path, name: str, layer: str) -> Path:
    return root / layer / f"{name}{LAYERS[layer]}"


def write_header(root: Path, header: Mapping[str, Any]) -> None:
    """Write photos.json of a new set, or raise DatasetError where one of other photos is there."""
    path = root / HEADER
    text = json.dumps({"format": FORMAT, "version": VERSION, **header}, indent=1) + "\n"
    if path.is_file():
        if read_json(path) != json.loads(text):
            raise DatasetError(f"{path}: holds photos of other settings or meshes; choose another folder or remove it")
        return
    write_atomically(path, lambda temporary: temporary.write_text(text))


def append_record(root: Path, record: PhotoRecord) -> None:
    """Add one photo to the list, durably."""
    append_durably(root / LINES, json.dumps(dataclasses.asdict(record)) + "\n", begin=not (root / LINES).is_file())


class PhotoSet:
    """A set opened for reading; `records` in the order of the header's meshes, then levels, then numbers."""

    def __init__(self, root: Path, header: Mapping[str, Any], records: Sequence[PhotoRecord]) -> None:
        self.root, self.header, self.records = root, header, tuple(records)
        self.meshes = tuple(PhotoMesh(**entry) for entry in header["meshes"])

    @classmethod
    def open(cls, root: str | Path) -> PhotoSet:
        """Read the lists. Raises DatasetError where `root` holds no such set; a half-written last line is left out."""
        root = Path(root)
        header = read_json(root / HEADER)
        with reading(str(root / HEADER)):
            if (header["format"], header["version"]) != (FORMAT, VERSION):
                raise ValueError(f"expected {FORMAT} version {VERSION}, got {header['format']} {header['version']}")
            order = {entry["id"]: i for i, entry in enumerate(header["meshes"])}
            records = sorted(read_records(root), key=lambda r: (order[r.mesh_id], r.name))
        return cls(root, header, records)

    def of_level(self, level: str) -> tuple[PhotoRecord, ...]:
        return tuple(record for record in self.records if record.level == level)

    def frame(self, record: PhotoRecord, boxes: str = "whole") -> BagFrame:
        """The photo with its truth; `boxes`: whole (also what is hidden) or visible. Raises DatasetError."""
        if boxes not in ("whole", "visible"):
            raise ValueError(f"boxes: expected whole or visible, got {boxes!r}")
        image = read_image(layer_path(self.root, record.name, "rgb"))
        box = np.array(record.box_whole if boxes == "whole" else record.box_visible)
        truth = Truth(
            record.name,
            record.mesh_id,
            record.pose,
            box,
            1 - record.hidden,
            np.array(record.center),
            np.array(record.size),
        )
        return BagFrame(Frame(image, record.camera, 0, FRAME_ID), (), (truth,))

    def mask(self, record: PhotoRecord) -> tuple[np.ndarray, np.ndarray]:
        """(visible, whole) [H, W] bool."""
        mask = self._layer(record, "mask")
        return mask == VISIBLE, mask >= HIDDEN

    def depth(self, record: PhotoRecord) -> np.ndarray:
        """[H, W] float32 metres."""
        return self._layer(record, "depth").astype(np.float32) * np.float32(record.depth_scale)

    def noc(self, record: PhotoRecord) -> np.ndarray:
        """Points [H, W, 3] float32 of the visible object in its normalised frame, NaN elsewhere."""
        noc = self._layer(record, "noc")[..., ::-1].astype(np.float32) / 65535 * 2 - 1
        return np.where(self.mask(record)[0][..., None], noc, np.nan)

    def verify(self) -> list[str]:
        """One line per file that is missing or not as it was written."""
        problems = []
        for record in self.records:
            for layer, digest in record.files.items():
                path = layer_path(self.root, record.name, layer)
                if not path.is_file() or sha256_of(path) != digest:
                    problems.append(f"{path}: {'its content has changed' if path.is_file() else 'is missing'}")
        return problems

    def _layer(self, record: PhotoRecord, layer: str) -> np.ndarray:
        path = layer_path(self.root, record.name, layer)
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if layer in record.files else None
        if image is None:
            raise DatasetError(f"{path}: no readable image; the set was made with {', '.join(record.files)}")
        return image


def read_records(root: Path) -> list[PhotoRecord]:
    """The annotations written so far; the last line may be cut short by a kill and is then left out."""
    path = root / LINES
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    if lines and not lines[-1].endswith("\n"):
        log.warning("%s: the last line is cut short; its photo will be made again", path)
        lines = lines[:-1]
        write_atomically(path, lambda temporary: temporary.write_text("".join(lines)))
    records = []
    for number, line in enumerate(lines, 1):
        with reading(f"{path}: line {number}"):
            records.append(_record(json.loads(line)))
    return records


def _record(entry: Any) -> PhotoRecord:
    lengths = {"K": 9, "T_cam_obj": 16, "box_visible": 4, "box_whole": 4, "center": 3, "size": 3}
    for name, count in lengths.items():
        entry[name] = tuple(numbers(entry[name], (count,)).tolist())
    entry["occluders"] = tuple(entry["occluders"])
    return PhotoRecord(**entry)
