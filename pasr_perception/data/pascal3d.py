"""Pascal3D+ (Xiang et al. 2014): photos of 12 rigid categories with viewpoints and the nearest of a few CAD models.

Annotations/CATEGORY_SOURCE/NAME.mat holds `record` with `objects`; a viewpoint is azimuth, elevation and theta in degrees,
distance, focal length, viewport and principal point, meant as in the tool-kit's project_3d.m: the camera sits at
d (cos e sin a, -cos e cos a, sin e) of a model whose +z is up, and the image is turned by theta. MATLAB counts pixels from 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from pasr_perception.data.annotation import DatasetError, numbers, read_image, reading
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.geometry.se3 import make_T
from pasr_perception.library.manifest import MeshSource
from pasr_perception.types import Camera, Frame

CATEGORIES = (
    "aeroplane",
    "bicycle",
    "boat",
    "bottle",
    "bus",
    "car",
    "chair",
    "diningtable",
    "motorbike",
    "sofa",
    "train",
    "tvmonitor",
)
SOURCES = ("imagenet", "pascal")
IMAGE_SUFFIXES = (".JPEG", ".jpg", ".png")
FRAME_ID = "camera_optical_frame"


def pascal3d_mesh_id(category: str, cad_index: int) -> str:
    """The mesh id of a category's CAD model, counted from 1 as in the annotations."""
    return f"{category}_{cad_index:02d}"


def pascal3d_pose(azimuth: float, elevation: float, theta: float, distance: float) -> np.ndarray:
    """T_cam_obj [4, 4] of a viewpoint; angles in radians."""
    ca, sa, ce, se = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)
    eye = distance * np.array([ce * sa, -ce * ca, se])
    tilt = elevation - math.pi / 2
    R_z = np.array([[ca, sa, 0], [-sa, ca, 0], [0, 0, 1]])  # by -azimuth
    R_x = np.array([[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]])
    turn = np.array([[math.cos(theta), -math.sin(theta), 0], [math.sin(theta), math.cos(theta), 0], [0, 0, 1]])
    R = np.diag([1.0, -1.0, -1.0]) @ turn @ R_x @ R_z  # its camera looks along -z with y up
    return make_T(R, -R @ eye)


@dataclass(frozen=True)
class Pascal3dReader:
    """The photos of one or more categories, each with the objects of that category whose viewpoint is known. Raises DatasetError.

    whole_only: leave out objects marked truncated, occluded or difficult. names: file stems to keep; empty = all that are there.
    """

    root: Path
    categories: tuple[str, ...] = CATEGORIES
    sources: tuple[str, ...] = SOURCES
    whole_only: bool = True
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.categories) - set(CATEGORIES))
        if unknown:
            raise ValueError(f"categories: expected some of {', '.join(CATEGORIES)}, got {unknown}")

    def __iter__(self) -> Iterator[BagFrame]:
        found = 0
        for category in self.categories:
            for source in self.sources:
                for path in sorted((self.root / "Annotations" / f"{category}_{source}").glob("*.mat")):
                    if self.names and path.stem not in self.names:
                        continue
                    with reading(str(path)):
                        frames = list(self._frames(path, category, found))
                    yield from frames
                    found += len(frames)
        if not found and not (self.root / "Annotations").is_dir():
            raise DatasetError(f"{self.root}: expected Pascal3D+ (a folder Annotations/), found none")

    def meshes(self) -> list[MeshSource]:
        """The CAD models of the categories, for a library; upright, +z up, without colours."""
        return [
            MeshSource(
                pascal3d_mesh_id(category, int(path.stem)),
                category,
                path,
                1.0,
                "see the data set",
                "Pascal3D+",
                "unknown",
                "upright",
                "+z",
            )
            for category in self.categories
            for path in sorted((self.root / "CAD" / category).glob("[0-9][0-9].off"))
        ]

    def _frames(self, path: Path, category: str, number: int) -> Iterator[BagFrame]:
        """One frame per object: viewpoints of one photo may have cameras of their own."""
        record = loadmat(path, squeeze_me=True, struct_as_record=False)["record"]
        image = None
        for index, entry in enumerate(np.atleast_1d(record.objects)):
            if str(getattr(entry, "class")) != category or not _usable(entry, self.whole_only):
                continue
            if image is None:
                image = read_image(_image_path(self.root, path))
            yield _frame(entry, category, image, (f"{path.stem}_{index}", number + index))


def _usable(entry: Any, whole_only: bool) -> bool:
    view = getattr(entry, "viewpoint", None)
    known = view is not None and float(getattr(view, "distance", 0) or 0) > 0  # 0: only a coarse viewpoint was given
    cut = any(bool(getattr(entry, name, 0)) for name in ("truncated", "occluded", "difficult"))
    return known and not (whole_only and cut)


def _frame(entry: Any, category: str, image: np.ndarray, name: tuple[str, int]) -> BagFrame:
    view, (height, width) = entry.viewpoint, image.shape[:2]
    angles = numbers([view.azimuth, view.elevation, view.theta], (3,))
    focal = float(view.focal) * float(view.viewport)
    if not focal > 0:
        raise ValueError(f"viewpoint: expected focal * viewport above 0, got {focal}")
    # a principal point of 1, 1 is the centre of the first pixel, which is 0.5, 0.5 here
    K = np.array([[focal, 0, float(view.px) - 0.5], [0, focal, float(view.py) - 0.5], [0, 0, 1.0]])
    x0, y0, x1, y1 = numbers(entry.bbox, (4,))
    azimuth, elevation, theta = np.radians(angles).tolist()
    T = pascal3d_pose(azimuth, elevation, theta, float(view.distance))
    truth = Truth(name[0], pascal3d_mesh_id(category, int(entry.cad_index)), T, np.array([x0 - 1, y0 - 1, x1, y1]))
    return BagFrame(Frame(image, Camera(width, height, K), name[1], FRAME_ID), (), (truth,))


def _image_path(root: Path, annotation: Path) -> Path:
    folder = root / "Images" / annotation.parent.name
    for suffix in IMAGE_SUFFIXES:
        if (folder / f"{annotation.stem}{suffix}").is_file():
            return folder / f"{annotation.stem}{suffix}"
    raise DatasetError(f"{folder}: expected {annotation.stem} with one of {', '.join(IMAGE_SUFFIXES)}, found none")
