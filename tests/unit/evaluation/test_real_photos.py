"""Judging answers on photos in BOP's layout, with a method whose answers are known."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from pasr_perception.evaluation.methods import Answer
from pasr_perception.evaluation.real_photos import RealProtocol, judge_photos, real_report, real_results
from pasr_perception.library.store import MeshLibrary


class Perfect:
    """Says the truth of the first object and a wrong mesh of the second, whose given pose is 1 m off."""

    def __init__(self, poses: list[np.ndarray]) -> None:
        self._poses = poses

    def ask(self, frame, detections, true_ids=None):
        off = self._poses[1].copy()
        off[2, 3] += 1
        return [
            Answer(("box", "slab"), self._poses[0], given=self._poses[0], given_before=self._poses[0]),
            Answer(("box", "slab"), self._poses[1], given=off, given_before=off),
        ]


@pytest.fixture
def photos(tmp_path, scene, monkeypatch):
    """One photo of the library's box and slab; BOP's object numbers are made to name them."""
    names = {1: "box", 2: "slab"}
    for module in ("data.bop", "evaluation.real_photos"):
        monkeypatch.setattr(f"pasr_perception.{module}.mesh_name", names.__getitem__)
    poses = [scene.pose(-0.1, 0), scene.pose(0.1, 0)]
    folder = tmp_path / "000001"
    (folder / "rgb").mkdir(parents=True)
    cv2.imwrite(str(folder / "rgb" / "000000.png"), np.zeros((240, 320, 3), np.uint8))
    K = (scene.camera.K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]).reshape(-1).tolist()
    entries = [
        {"obj_id": i, "cam_R_m2c": T[:3, :3].reshape(-1).tolist(), "cam_t_m2c": (T[:3, 3] * 1000).tolist()}
        for i, T in zip(names, poses, strict=True)
    ]
    info = {"bbox_visib": [100, 100, 50, 50], "visib_fract": 1.0}
    for name, value in {"scene_camera": {"cam_K": K}, "scene_gt": entries, "scene_gt_info": [info, info]}.items():
        (folder / f"{name}.json").write_text(json.dumps({"0": value}))
    return tmp_path, poses


def test_identity_shape_and_recalls(photos, pipeline):
    root, poses = photos
    library: MeshLibrary = pipeline.library
    judged, facts = judge_photos(root, library, Perfect(poses), RealProtocol())
    report = real_report(judged, facts)
    assert (report["all"]["objects"], report["all"]["id_top1"], report["all"]["id_top5"]) == (2, 0.5, 1.0)
    assert (report["coloured"]["id_top1"], report["bare"]["id_top1"]) == (1.0, 0.0)
    given, free = report["all"]["given"], report["all"]["end_to_end"]
    assert (given["adds_rotation_05d"], given["adds_10d"], given["mssd_recall"]) == (1.0, 0.5, 0.5)
    assert (free["adds_rotation_05d"], free["adds_10d"], free["mspd_recall"]) == (0.5, 0.5, 0.5)
    assert given["vsd_recall"] is None
    results = real_results(report)
    assert set(results) == {
        "shape_top1",
        "id_top1",
        "id_top1_coloured",
        "adds_rotation_05d",
        "adds_recall",
        "mssd_recall",
        "mspd_recall",
    }
    assert results["id_top1_coloured"] == 1.0
