"""A library of four small meshes, a real if very plain encoder, and bags with answers whose errors are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from pasr_perception.config import PasrConfig, RefineConfig
from pasr_perception.data import messages
from pasr_perception.data.bagio import BagWriter
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.data.ros_types import ros_types
from pasr_perception.geometry.camera import project
from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.geometry.symmetry import find_symmetries
from pasr_perception.geometry.viewpoints import random_rotations
from pasr_perception.library.store import LibraryHeader, LibraryWriter, MeshData, MeshEntry, MeshLibrary
from pasr_perception.pipeline import Pipeline
from pasr_perception.render.splat import SplatConfig
from pasr_perception.templates import build_templates
from pasr_perception.types import Camera, Detection, Frame

GRID, SIZE, DIM = 8, 64, 4
CAMERA = Camera(320, 240, np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]))
VIEW = ViewSpec(fill=0.8, distance=6.0)
SPLAT = SplatConfig(size=GRID, radius=0.2, points_per_pixel=8)
COLOURS = {"can_red": (220, 30, 30), "can_blue": (30, 30, 220), "box": (30, 200, 30), "slab": (200, 200, 40)}
CATEGORIES = {"can_red": "can", "can_blue": "can", "box": "box", "slab": "box"}


class ColourEncoder:
    """The mean colour of every cell, and a constant."""

    name, dim, image_size, grid, fingerprint = "colour", DIM, SIZE, GRID, "1"

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        cells = torch.nn.functional.avg_pool2d(images.float() / 255, SIZE // GRID)
        return torch.nn.functional.normalize(torch.cat([cells, torch.full_like(cells[:, :1], 0.2)], 1), dim=1)


def solid(mesh_id: str) -> trimesh.Trimesh:
    create = trimesh.creation
    mesh = {
        "can_red": lambda: create.cylinder(radius=0.035, height=0.1),
        "can_blue": lambda: create.cylinder(radius=0.035, height=0.1).apply_translation((0, 0, 0.05)),
        "box": lambda: create.box((0.05, 0.08, 0.12)),
        "slab": lambda: create.box((0.02, 0.15, 0.2)),
    }[mesh_id]()
    mesh.visual = trimesh.visual.ColorVisuals(
        mesh, vertex_colors=np.tile([*COLOURS[mesh_id], 255], (len(mesh.vertices), 1))
    )
    return mesh


def add_mesh(writer: LibraryWriter, mesh_id: str, seed: int) -> None:
    mesh = solid(mesh_id)
    center, scale = mesh.bounds.mean(0), float(np.linalg.norm(mesh.extents) / 2)
    normalised = (np.asarray(trimesh.sample.sample_surface(mesh, 2048, seed=seed)[0]) - center) / scale
    points = torch.tensor(normalised, dtype=torch.float32)
    feature = torch.nn.functional.normalize(torch.tensor([*(c / 255 for c in COLOURS[mesh_id]), 0.2]), dim=0)
    rotations = torch.tensor(random_rotations(40, np.random.default_rng(seed)), dtype=torch.float32)
    features = feature.expand(len(points), DIM).half()
    data = MeshData(
        points=points,
        features=features,
        weight=torch.ones(len(points)),
        view_rotation=rotations[:12].clone(),
        view_pooled=feature.expand(12, DIM).half(),
    )
    entry = MeshEntry(
        id=mesh_id,
        category=CATEGORIES[mesh_id],
        source_path="made by the test",
        unit=1.0,
        licence="CC0",
        creator="",
        appearance="unknown" if mesh_id == "slab" else "known",
        pose_set="so3",
        up="+z",
        center=tuple(center.tolist()),
        scale=scale,
        extent=tuple(mesh.extents.tolist()),
        faces=len(mesh.faces),
        build_seconds=0.0,
        offset_std=0.1,
        symmetry=find_symmetries(normalised).moved(scale, center),
    )
    writer.add(entry, data, build_templates(points, features.float(), rotations, VIEW, SPLAT), mesh)


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    path = tmp_path_factory.mktemp("library") / "lib"
    header = LibraryHeader("colour", "1", DIM, SIZE, GRID, VIEW.fill, VIEW.distance, SPLAT)
    with LibraryWriter.create(path, header) as writer:
        for seed, mesh_id in enumerate(COLOURS):
            add_mesh(writer, mesh_id, seed)
    # strangers spread eight times as wide here as with a real encoder, and what contours are worth is told in spreads
    config = PasrConfig(refine=RefineConfig(steps=2, contour_weight=RefineConfig.contour_weight / 8))
    return Pipeline(MeshLibrary.open(path), ColourEncoder(), config, torch.device("cpu"))


def pose(x: float, y: float, euler: tuple[float, float, float] = (70, 20, 0), z: float = 0.6) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", euler, degrees=True).as_matrix()
    T[:3, 3] = (x, y, z)
    return T


def turned(T: np.ndarray, degrees: float, shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """The pose turned about the object's own x axis and moved in the camera's frame."""
    moved = T.copy()
    moved[:3, :3] = T[:3, :3] @ Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    moved[:3, 3] += shift
    return moved


def bag_frame(stamp_ns: int, truths: Sequence[Truth]) -> BagFrame:
    """An image in which every object is a filled outline of its colour, with exact boxes as detections."""
    image = np.full((CAMERA.height, CAMERA.width, 3), 128, np.uint8)
    boxes = []
    for truth in truths:
        mesh = solid(truth.mesh_id) if truth.mesh_id in COLOURS else trimesh.creation.icosphere(radius=0.04)
        uv = project(np.asarray(mesh.vertices) @ truth.T_cam_obj[:3, :3].T + truth.T_cam_obj[:3, 3], CAMERA.K)
        box = np.concatenate([uv.min(0), uv.max(0)])
        x0, y0, x1, y1 = box.round().astype(int)
        image[y0:y1, x0:x1] = COLOURS.get(truth.mesh_id, (255, 255, 255))
        boxes.append(box)
    detections = tuple(Detection(box, id=truth.id) for box, truth in zip(boxes, truths, strict=True))
    return BagFrame(Frame(image, CAMERA, stamp_ns, "camera"), detections, tuple(truths))


Answer = tuple[str, list[tuple[str, float, np.ndarray]]]  # object id, [(mesh id, score, T_cam_obj)] best first


def objects_message(stamp_ns: int, answers: Sequence[Answer]) -> Any:
    """The Detection3DArray that the node would publish."""
    items = []
    for object_id, ranked in answers:
        singles = [
            messages.truths_message((Truth(object_id, m, T, visible_fraction=s),), stamp_ns, "camera").detections[0]
            for m, s, T in ranked
        ]
        items.append(dataclasses.replace(singles[0], results=[single.results[0] for single in singles]))
    return dataclasses.replace(messages.truths_message((), stamp_ns, "camera"), detections=items)


def diagnostics_message(stamp_ns: int, values: dict[str, str], name: str = "pasr_node: pipeline") -> Any:
    types = ros_types().types
    pairs = [types["diagnostic_msgs/msg/KeyValue"](key=key, value=value) for key, value in values.items()]
    status = types["diagnostic_msgs/msg/DiagnosticStatus"](level=0, name=name, message="", hardware_id="", values=pairs)
    return types["diagnostic_msgs/msg/DiagnosticArray"](header=messages.header(stamp_ns, ""), status=[status])


def write_recording(path: Path, final: dict[int, Sequence[Answer]], coarse: dict[int, Sequence[Answer]]) -> Path:
    with BagWriter(path) as writer:
        for i, (stamp, answers) in enumerate(final.items()):
            writer.write("/pasr_node/objects", objects_message(stamp, answers), stamp)
            if stamp in coarse:
                writer.write("/pasr_node/coarse_objects", objects_message(stamp, coarse[stamp]), stamp)
            values = {"frame_stamp": str(stamp), "latency_ms/crop": str(1.0 + i), "latency_ms/total": "nan"}
            writer.write("/diagnostics", diagnostics_message(stamp, values), stamp)
            writer.write("/diagnostics", diagnostics_message(stamp, {"latency_ms/crop": "99"}, "other: input"), stamp)
    return path


@pytest.fixture(scope="session")
def scene() -> SimpleNamespace:
    """The functions above, for tests to make poses, frames and recordings with."""
    return SimpleNamespace(
        pose=pose, turned=turned, bag_frame=bag_frame, write_recording=write_recording, camera=CAMERA
    )
