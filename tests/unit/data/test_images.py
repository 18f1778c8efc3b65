from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import trimesh

from pasr_perception.data.annotation import DatasetError
from pasr_perception.data.images import read_annotated, read_single

K = [[40.0, 0, 15], [0, 41, 10], [0, 0, 1]]
POSE = [[0, -1, 0, 0.1], [1, 0, 0, -0.2], [0, 0, 1, 1.5], [0, 0, 0, 1]]


@pytest.fixture
def folder(tmp_path):
    image = np.zeros((20, 30, 3), np.uint8)
    image[..., 0] = 200  # BGR on disk: blue
    cv2.imwrite(str(tmp_path / "a.png"), image)
    return tmp_path


def annotate(folder, **change):
    frame = {
        "image": "a.png",
        "K": K,
        "objects": [{"id": "x", "box": [1, 2, 9, 8], "mesh_id": "mug", "T_cam_obj": POSE}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps({"frames": [{**frame, **change}, frame]}))
    return path


def test_truths_and_bare_boxes(folder):
    path = annotate(
        folder, objects=[{"box": [1, 2, 9, 8]}, {"id": "x", "box": [3, 4, 5, 6], "mesh_id": "mug", "T_cam_obj": POSE}]
    )
    first, second = read_annotated(folder, path, rate_hz=4.0)
    assert second.frame.stamp_ns - first.frame.stamp_ns == 250_000_000
    np.testing.assert_array_equal(first.frame.image[0, 0], [0, 0, 200])
    (bare,), (truth,) = first.detections, first.truths
    assert bare.id == "0"
    np.testing.assert_array_equal(bare.box, [1, 2, 9, 8])
    assert (truth.id, truth.mesh_id, truth.visible_fraction) == ("x", "mug", 1.0)
    np.testing.assert_array_equal(truth.T_cam_obj, POSE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": "../a.png"}, "without folders"),
        ({"image": "b.png"}, "no readable image"),
        ({"K": [1, 2, 3]}, "9 finite numbers"),
        ({"distortion": [1, 2]}, "distortion"),
        ({"colour": 1}, "unknown key colour"),
        ({"objects": [{"box": [9, 2, 1, 8]}]}, "x_min < x_max"),
        ({"objects": [{"box": [1, 2, 9, 8], "T_cam_obj": POSE}]}, "mesh_id"),
        ({"objects": [{"box": [1, 2, 9, 8], "mesh_id": "m", "T_cam_obj": [[1, 2], [3, 4]]}]}, "16 finite"),
        ({"objects": [{"box": [1, 2, 9, 8], "mesh_id": "m", "T_cam_obj": (2 * np.eye(4)).tolist()}]}, "rigid"),
    ],
)
def test_mistakes_are_named(folder, change, words):
    with pytest.raises(DatasetError, match=rf"annotations.json: frames\[0\].*{words}|{words}"):
        list(read_annotated(folder, annotate(folder, **change)))


def test_single_frame_pose_is_moved_from_the_centre_of_the_bounds_to_the_meshs_origin(folder):
    mesh = trimesh.creation.box((0.2, 0.2, 0.4))
    mesh.apply_translation([0.5, 0.0, 0.0])
    mesh.export(folder / "thing.ply")
    pose = {"position_m": [0.0, 0, 2], "quaternion_xyzw": [0, 0, 0.7071, 0.7071]}
    entry = {"name": "t", "mesh": "thing.ply", "T_cam_obj": pose, "bbox_visible_xywh": [1, 2, 8, 6]}
    entry["mesh_note"] = "metres; subtract the centre of its bounding box first, then the pose fits"
    others = {"other_boxes_without_mesh_xywh": {"stranger": [0, 0, 5, 5]}}
    (folder / "ground_truth.json").write_text(json.dumps({"image": "a.png", "K": K, "objects": [entry], **others}))
    item = read_single(folder)
    (truth,) = item.truths
    assert truth.mesh_id == "thing"
    np.testing.assert_allclose(truth.center, [0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(truth.T_cam_obj[:3, :3] @ truth.center + truth.T_cam_obj[:3, 3], [0, 0, 2], atol=1e-6)
    np.testing.assert_array_equal(truth.box, [1, 2, 9, 8])
    assert [d.id for d in item.detections] == ["stranger"]
