"""A tiny directory laid out as Pix3D is."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from pasr_perception.data.annotation import DatasetError
from pasr_perception.data.pix3d import Pix3dReader, pix3d_mesh_id
from pasr_perception.geometry.camera import project

ENTRY = {
    "img": "img/bed/0001.png",
    "category": "bed",
    "img_size": [64, 48],
    "mask": "mask/bed/0001.png",
    "model": "model/bed/IKEA_BEDDINGE/model.obj",
    "rot_mat": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "trans_mat": [0.1, 0.2, 2.0],
    "focal_length": 32.0,
    "bbox": [5, 6, 40, 30],
    "truncated": False,
    "occluded": False,
    "slightly_occluded": False,
}


def dataset(root, *changes):
    (root / "img" / "bed").mkdir(parents=True)
    (root / "model" / "bed" / "IKEA_BEDDINGE").mkdir(parents=True)
    (root / "model" / "bed" / "IKEA_BEDDINGE" / "model.obj").write_text("v 0 0 0\n")
    cv2.imwrite(str(root / "img" / "bed" / "0001.png"), np.zeros((48, 64, 3), np.uint8))
    (root / "pix3d.json").write_text(json.dumps([{**ENTRY, **change} for change in changes]))
    return root


def test_x_is_left_and_y_up_in_pix3d_and_the_sensor_is_32_mm_wide(tmp_path):
    item = next(iter(Pix3dReader(dataset(tmp_path, {}))))
    truth, camera = item.truths[0], item.frame.camera
    np.testing.assert_array_equal(camera.K, [[64, 0, 32], [0, 64, 24], [0, 0, 1]])
    np.testing.assert_allclose(truth.T_cam_obj[:3, 3], [-0.1, -0.2, 2])
    # what is to the left and up in Pix3D's camera is left of and above the middle of the image
    uv = project(truth.T_cam_obj[:3, 3][None], camera.K)[0]
    np.testing.assert_allclose(uv, [32 - 64 * 0.05, 24 - 64 * 0.1])
    assert np.linalg.det(truth.T_cam_obj[:3, :3]) == pytest.approx(1)
    np.testing.assert_array_equal(truth.box, [5, 6, 40, 30])
    assert truth.mesh_id == "bed-IKEA_BEDDINGE-model"


def test_cut_objects_and_other_categories_are_left_out(tmp_path):
    root = dataset(tmp_path, {}, {"occluded": True}, {"slightly_occluded": True}, {"category": "sofa"})
    assert [f.truths[0].id for f in Pix3dReader(root)] == ["0", "3"]
    assert len(list(Pix3dReader(root, whole_only=False))) == 4
    assert len(list(Pix3dReader(root, categories=("sofa",)))) == 1


def test_models_become_sources_once(tmp_path):
    sources = Pix3dReader(dataset(tmp_path, {}, {})).sources()
    assert [(s.id, s.category, s.up, s.pose_set) for s in sources] == [
        ("bed-IKEA_BEDDINGE-model", "bed", "+y", "upright")
    ]
    assert sources[0].path.is_file()
    assert pix3d_mesh_id("model/tool/A B/c.obj") == "tool-A-B-c"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rot_mat": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, "entry 0: rot_mat: expected a rotation"),
        ({"bbox": [1, 2]}, "entry 0: expected 4 finite numbers"),
        ({"img": "../../etc/passwd"}, "entry 0: path: expected one inside"),
        ({"img": "img/bed/9999.png"}, "no readable image"),
    ],
)
def test_broken_entries_are_named(tmp_path, change, words):
    with pytest.raises(DatasetError, match=words):
        list(Pix3dReader(dataset(tmp_path, change)))


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "pix3d.json").write_text("{}")
    with pytest.raises(DatasetError, match="expected a list of photos"):
        list(Pix3dReader(tmp_path))
