"""Settling: a photo of several objects and one with a depth map, of meshes that stand where they should and of some that do not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.config import DepthConfig, PasrConfig, RankConfig, RefineConfig, SupportConfig
from pasr_perception.crop import crop_detections
from pasr_perception.geometry.covariance import settled_along
from pasr_perception.geometry.se3 import make_T, rotation_angle
from pasr_perception.geometry.viewpoints import random_rotations
from pasr_perception.library.store import MeshLibrary
from pasr_perception.pipeline import Pipeline
from pasr_perception.placing import farther
from pasr_perception.settling import Settling
from pasr_perception.support import STRANGE
from pasr_perception.types import Candidates, Crop, Depth, Detection, Frame

CONFIG = SupportConfig()
OFF = SupportConfig(enabled=False)


def test_a_pose_moves_along_its_line_of_sight() -> None:
    R = random_rotations(1, np.random.default_rng(1))[0]
    center = np.array([0.3, -0.2, 0.1])
    T = make_T(R, np.array([0.2, 0.1, 1.5]) - R @ center)
    moved = farther(T, center, 1.2)
    np.testing.assert_allclose(moved[:3, :3] @ center + moved[:3, 3], 1.2 * np.array([0.2, 0.1, 1.5]), atol=1e-12)
    np.testing.assert_array_equal(moved[:3, :3], R)


def test_a_measured_distance_leaves_less_to_be_unsure_of() -> None:
    A = np.random.default_rng(2).normal(size=(6, 6))
    C, along = A @ A.T, np.array([0.6, 0.0, 0.8])
    settled = settled_along(C, along, 0.25)
    row = np.concatenate([along, np.zeros(3)])
    in_information = np.linalg.inv(np.linalg.inv(C) + np.outer(row, row) / 0.25)
    np.testing.assert_allclose(settled, in_information, rtol=1e-8, atol=1e-10)


@pytest.fixture(scope="module")
def photo(bench: Any) -> tuple[Frame, list[Detection], list[np.ndarray]]:
    """Six blocks at one depth, which is a surface as good as any, whose boxes are a tenth too small or too large."""
    image, detections, truths = None, [], []
    size = np.array([0.92, 1.08, 0.95, 1.05, 0.9, 1.1])
    for k, R in enumerate(random_rotations(6, np.random.default_rng(21))):
        middle = np.array([(k % 3 - 1) * 0.55, (k // 3 - 0.5) * 0.6, 2.0])
        T = make_T(R, middle - R @ bench.meshes["block"].bounds.mean(0))
        frame, detection = bench.photograph("block", T)
        shown = (np.abs(frame.image.astype(int) - 128) > 1).any(2)
        image = frame.image.copy() if image is None else np.where(shown[..., None], frame.image, image)
        centre, half = (detection.box[:2] + detection.box[2:]) / 2, (detection.box[2:] - detection.box[:2]) / 2
        box = np.concatenate([centre - size[k] * half, centre + size[k] * half])
        detections.append(dataclasses.replace(detection, box=box, id=str(k)))
        truths.append(T)
    assert image is not None
    return Frame(image, bench.camera), detections, truths


def opened(
    bench: Any, library_path: Path, support: SupportConfig = CONFIG, depth: DepthConfig | None = None
) -> Pipeline:
    refine, rank = RefineConfig(top_k=4, unknowns=3), RankConfig(known_margin=0.0)
    config = PasrConfig(refine=refine, rank=rank, support=support, depth=depth or DepthConfig())
    return Pipeline(MeshLibrary.open(library_path), bench.encoder, config, torch.device("cpu"))


def middles(bench: Any, poses: list[np.ndarray]) -> np.ndarray:
    center = bench.meshes["block"].bounds.mean(0)
    return np.stack([T[:3, :3] @ center + T[:3, 3] for T in poses])


def test_a_photo_of_several_objects_settles_their_distances(bench: Any, library_path: Path, photo: Any) -> None:
    frame, detections, truths = photo
    found = {}
    for name, support in (("with", CONFIG), ("without", OFF)):
        asked = ["block"] * len(detections)
        result = opened(bench, library_path, support).detect(frame, detections, asked, loose=False)
        found[name] = [o.best for o in result.objects]
    truth = middles(bench, truths)
    off = {name: middles(bench, [h.T_cam_obj for h in best])[:, 2] / truth[:, 2] - 1 for name, best in found.items()}
    assert np.sqrt((off["with"] ** 2).mean()) < 0.75 * np.sqrt((off["without"] ** 2).mean())
    pairs = list(zip(found["with"], found["without"], strict=True))
    same = [p for p in pairs if rotation_angle(*(h.T_cam_obj[:3, :3] for h in p)) < 1e-6]
    assert len(same) >= len(pairs) - 1  # one of two nearly equal poses may stand better than the other
    for ours, theirs in same:
        assert ours.covariance is not None
        assert theirs.covariance is not None
        assert ours.covariance[2, 2] < theirs.covariance[2, 2]
        assert np.linalg.eigvalsh(ours.covariance).min() > 0


def test_fewer_objects_are_looked_at_one_by_one(bench: Any, library_path: Path, photo: Any) -> None:
    frame, detections, _ = photo
    three = [
        opened(bench, library_path, support).detect(frame, detections[:3], covariances=False, loose=False)
        for support in (CONFIG, OFF, SupportConfig(least=6))
    ]
    for ours, off, more in zip(*(result.objects for result in three), strict=True):
        np.testing.assert_array_equal(ours.best.T_cam_obj, off.best.T_cam_obj)
        np.testing.assert_array_equal(ours.best.T_cam_obj, more.best.T_cam_obj)
        assert ours.best.margin == off.best.margin


def test_candidates_carry_what_was_settled_wherever_they_go() -> None:
    found = Candidates(
        torch.tensor([0, 1]),
        torch.eye(3).repeat(2, 1, 1),
        torch.zeros(2, dtype=torch.long),
        torch.tensor([0.5, 0.4]),
        torch.tensor([0.5, 0.4]),
        distance=torch.tensor([[1.1, 0.02], [1.0, torch.inf]]),
    )
    turned = found.chosen(torch.tensor([1, 0]))
    assert turned.distance is not None
    assert turned.distance[:, 0].tolist() == pytest.approx([1.0, 1.1])


def both_sizes(pipeline: Pipeline, bench: Any, z: float) -> tuple[Frame, Crop, Candidates, np.ndarray]:
    """A photo of the can, and candidates of equal value: the can, and the block where it would look as large."""
    R = random_rotations(1, np.random.default_rng(4))[0]
    T = make_T(R, np.array([0.0, 0.0, z]) - R @ bench.meshes["can"].bounds.mean(0))
    frame, detection = bench.photograph("can", T)
    crop = crop_detections(frame, [detection], pipeline.crop_spec)[0][0]
    meshes = torch.tensor([pipeline.library.index_of(name) for name in ("can", "block")])
    rotation = torch.from_numpy(crop.R_cam_crop.T @ R).float().expand(2, 3, 3)
    value = pipeline.rivals.offset[meshes] + 8 * pipeline.rivals.spread[meshes]
    return frame, crop, Candidates(meshes, rotation, torch.zeros(2, dtype=torch.long), value, value), T


def measured(bench: Any, frame: Frame, z: float) -> Frame:
    """The frame with a depth map that shows the can and a wall behind it."""
    shown = (np.abs(frame.image.astype(int) - 128) > 1).any(2)
    return dataclasses.replace(frame, depth=Depth(np.where(shown, z, 9.0).astype(np.float32)))


def test_a_depth_map_tells_meshes_by_their_size(bench: Any, library_path: Path) -> None:
    pipeline = opened(bench, library_path)
    frame, crop, equal, _ = both_sizes(pipeline, bench, 0.6)
    settling = Settling(pipeline.placing, pipeline.config)
    (told,) = settling([equal], [crop], measured(bench, frame, 0.57))
    margin = pipeline.rivals.margin(told.value, told.mesh_index)
    slope, strays = pipeline.config.confidence.slope, CONFIG.strays
    assert float(margin[0]) == pytest.approx(8.0 - np.log(STRANGE) / slope, abs=1.5)
    assert float(margin[1]) == pytest.approx(8.0 + np.log(strays / STRANGE) / slope, abs=0.1)
    assert told.distance is not None
    assert told.distance[:, 0].tolist() == [1, 1]  # depth moves poses later


def test_without_a_word_of_depth_nothing_changes(bench: Any, library_path: Path) -> None:
    pipeline = opened(bench, library_path)
    frame, crop, equal, _ = both_sizes(pipeline, bench, 0.6)
    holes = dataclasses.replace(frame, depth=Depth(np.zeros(frame.image.shape[:2], np.float32)))
    (told,) = Settling(pipeline.placing, pipeline.config)([equal], [crop], holes)
    np.testing.assert_allclose(told.value, equal.value)
    for silent in (DepthConfig(tells_size=False), DepthConfig(enabled=False)):
        off = opened(bench, library_path, depth=silent)
        assert Settling(off.placing, off.config)([equal], [crop], measured(bench, frame, 0.57))[0] is equal
    stale = dataclasses.replace(measured(bench, frame, 0.57), stamp_ns=10**9)
    assert Settling(pipeline.placing, pipeline.config)([equal], [crop], stale)[0] is equal


def test_what_cannot_be_placed_says_nothing(bench: Any, library_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = opened(bench, library_path)
    frame, crop, equal, _ = both_sizes(pipeline, bench, 0.6)
    broken = dataclasses.replace(equal, rotation=torch.zeros(2, 3, 3))
    settling = Settling(pipeline.placing, pipeline.config)
    for told in settling([broken] * 5, [crop] * 5, frame):
        assert told is broken
    some = settling([broken, *[equal] * 4], [crop] * 5, frame)
    assert torch.equal(some[0].value, broken.value)  # four objects in one place span no plane
