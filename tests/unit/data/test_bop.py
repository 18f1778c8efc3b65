from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pasr_perception.data.annotation import DatasetError
from pasr_perception.data.bop import BopReader

ROTATION = [0.0, -1, 0, 1, 0, 0, 0, 0, 1]


def write_dataset(root: Path) -> Path:
    (root / "models").mkdir(parents=True)
    size = {"min_x": -10, "min_y": -20, "min_z": 0, "size_x": 30, "size_y": 40, "size_z": 50, "diameter": 70}
    (root / "models" / "models_info.json").write_text(json.dumps({"5": size}))
    for scene in ("000001", "000002"):
        folder = root / "val" / scene
        (folder / "rgb").mkdir(parents=True)
        for number in (0, 10, 9):
            colour = np.zeros((20, 30, 3), np.uint8)
            colour[..., 2] = number  # BGR on disk: red
            cv2.imwrite(str(folder / "rgb" / f"{number:06d}.png"), colour)
        entry = {"cam_R_m2c": ROTATION, "cam_t_m2c": [100.0, -200, 1500], "obj_id": 5}
        info = {"bbox_visib": [2, 3, 10, 5], "bbox_obj": [-4, 3, 16, 5], "visib_fract": 0.5}
        hidden = {"bbox_visib": [-1, -1, -1, -1], "bbox_obj": [0, 0, 3, 3], "visib_fract": 0.0}
        keys = ("0", "10", "9")
        camera = {"cam_K": [40.0, 0, 15, 0, 41, 10, 0, 0, 1], "depth_scale": 1.0}
        (folder / "scene_camera.json").write_text(json.dumps(dict.fromkeys(keys, camera)))
        (folder / "scene_gt.json").write_text(json.dumps({k: [entry, {**entry, "obj_id": 7}] for k in keys}))
        (folder / "scene_gt_info.json").write_text(json.dumps({k: [info, hidden] for k in keys}))
    return root


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "set")


@pytest.mark.parametrize(("below", "count"), [("", 6), ("val", 6), ("val/000002", 3)])
def test_a_set_a_split_and_a_scene_are_read_in_order(dataset, below, count):
    found = list(BopReader(dataset / below, rate_hz=2.0))
    assert [int(f.frame.image[0, 0, 0]) for f in found] == [0, 9, 10] * (count // 3)
    np.testing.assert_array_equal(np.diff([f.frame.stamp_ns for f in found]), 5 * 10**8)


def test_millimetres_become_metres_and_boxes_xyxy(dataset):
    item = next(iter(BopReader(dataset)))
    seen, hidden = item.truths
    assert (seen.id, seen.mesh_id, seen.visible_fraction) == ("000001_00", "obj_000005", 0.5)
    np.testing.assert_allclose(seen.T_cam_obj[:3], [[0, -1, 0, 0.1], [1, 0, 0, -0.2], [0, 0, 1, 1.5]])
    np.testing.assert_array_equal(seen.box, [2, 3, 12, 8])
    np.testing.assert_allclose(seen.center, [0.005, 0, 0.025])
    np.testing.assert_allclose(seen.size, [0.03, 0.04, 0.05])
    assert hidden.box is None
    assert hidden.visible_fraction == 0
    assert (item.frame.camera.width, item.frame.camera.height) == (30, 20)
    # BOP counts pixels from the first one's centre
    np.testing.assert_array_equal(item.frame.camera.K, [[40, 0, 15.5], [0, 41, 10.5], [0, 0, 1]])


def test_amodal_boxes(dataset):
    item = next(iter(BopReader(dataset, amodal=True)))
    np.testing.assert_array_equal(item.truths[0].box, [-4, 3, 12, 8])


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("scene_gt.json", "{", "no JSON"),
        ("scene_gt.json", '{"a": []}', "scene_gt"),
        ("scene_gt.json", '{"3": []}', "000003.*'3' is missing"),
        ("scene_camera.json", '{"0": {}, "9": {}, "10": {}}', "cam_K"),
        ("scene_camera.json", '{"0": {"cam_K": [1, 2]}}', "9 finite numbers"),
        (
            "scene_gt.json",
            '{"0": [{"cam_R_m2c": [2,0,0,0,2,0,0,0,2], "cam_t_m2c": [0,0,1], "obj_id": 1}]}',
            "argument|rotation",
        ),
    ],
)
def test_broken_files_are_named(dataset, file, content, words):
    (dataset / "val" / "000001" / file).write_text(content)
    with pytest.raises(DatasetError, match=words) as caught:
        list(BopReader(dataset / "val" / "000001"))
    assert "000001" in str(caught.value)


def test_missing_images_and_scenes_are_named(dataset, tmp_path):
    (dataset / "val" / "000001" / "rgb" / "000009.png").unlink()
    with pytest.raises(DatasetError, match="000009"):
        list(BopReader(dataset))
    with pytest.raises(DatasetError, match="found none"):
        list(BopReader(tmp_path / "nowhere"))
