"""A tiny directory laid out as Pascal3D+ is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from pasr_perception.data.annotation import DatasetError
from pasr_perception.data.pascal3d import Pascal3dReader, pascal3d_mesh_id, pascal3d_pose
from pasr_perception.geometry.camera import project


def project_3d(points, a, e, theta, d, focal, viewport, principal):
    """The tool-kit's project_3d.m, line by line; pixels counted from 1."""
    C = np.array([d * np.cos(e) * np.sin(a), -d * np.cos(e) * np.cos(a), d * np.sin(e)])
    a, e = -a, -(np.pi / 2 - e)
    Rz = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    Rx = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    R = Rx @ Rz
    P = np.diag([viewport * focal, viewport * focal, -1.0]) @ np.column_stack([R, -R @ C])
    x = P @ np.column_stack([points, np.ones(len(points))]).T
    x = x[:2] / x[2]
    x = (np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]]) @ x).T
    return x * [1, -1] + principal


def view(**changes):
    values = {"azimuth": 30.0, "elevation": 20.0, "theta": -5.0, "distance": 4.0, "focal": 1.0}
    return {**values, "viewport": 3000.0, "px": 40.0, "py": 30.0, **changes}


def dataset(root, *objects):
    for folder in ("Annotations/car_imagenet", "Images/car_imagenet", "CAD/car"):
        (root / folder).mkdir(parents=True)
    entry = {"class": "car", "bbox": [11.0, 6.0, 40.0, 30.0], "cad_index": 3, "viewpoint": view()}
    entry |= {"truncated": 0, "occluded": 0, "difficult": 0}
    made = np.array([{**entry, **o} for o in objects], dtype=object)
    savemat(root / "Annotations" / "car_imagenet" / "n1_2.mat", {"record": {"filename": "n1_2.JPEG", "objects": made}})
    ok, data = cv2.imencode(".jpg", np.zeros((60, 80, 3), np.uint8))
    assert ok
    (root / "Images" / "car_imagenet" / "n1_2.JPEG").write_bytes(data.tobytes())
    (root / "CAD" / "car" / "03.off").write_text("OFF\n")
    return root


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.5, 0.3, -0.1), (-2.0, -0.2, 0.4), (3.0, 1.2, 1.0)])
def test_poses_project_as_the_tool_kit_does(angles):
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    T = pascal3d_pose(*angles, 5.0)
    K = np.array([[3000.0, 0, 39.5], [0, 3000, 29.5], [0, 0, 1]])
    uv = project(points @ T[:3, :3].T + T[:3, 3], K)
    expected = project_3d(points, *angles, 5.0, 1.0, 3000, np.array([40.0, 30.0]))
    np.testing.assert_allclose(uv + 0.5, expected, atol=1e-6)
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1)


def test_an_object_is_read(tmp_path):
    item = next(iter(Pascal3dReader(dataset(tmp_path, {}), ("car",))))
    truth = item.truths[0]
    assert (truth.id, truth.mesh_id) == ("n1_2_0", pascal3d_mesh_id("car", 3))
    np.testing.assert_array_equal(truth.box, [10, 5, 40, 30])
    np.testing.assert_array_equal(item.frame.camera.K, [[3000, 0, 39.5], [0, 3000, 29.5], [0, 0, 1]])
    np.testing.assert_allclose(truth.T_cam_obj, pascal3d_pose(*np.radians([30, 20, -5]), 4.0))
    assert item.frame.image.shape == (60, 80, 3)


def test_other_classes_cut_objects_and_coarse_viewpoints_are_left_out(tmp_path):
    root = dataset(tmp_path, {"class": "bus"}, {"occluded": 1}, {"viewpoint": view(distance=0.0)}, {})
    assert [f.truths[0].id for f in Pascal3dReader(root, ("car",))] == ["n1_2_3"]
    assert [f.truths[0].id for f in Pascal3dReader(root, ("car",), whole_only=False)] == ["n1_2_1", "n1_2_3"]
    assert list(Pascal3dReader(root, ("car",), names=("other",))) == []


def test_models_become_sources(tmp_path):
    sources = Pascal3dReader(dataset(tmp_path, {})).meshes()
    assert [(s.id, s.category, s.up, s.appearance) for s in sources] == [("car_03", "car", "+z", "unknown")]


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(ValueError, match="categories: expected some of aeroplane"):
        Pascal3dReader(tmp_path, ("cat",))
    with pytest.raises(DatasetError, match="expected Pascal3D"):
        list(Pascal3dReader(tmp_path))
    root = dataset(tmp_path / "set", {"viewpoint": view(viewport=0.0)})
    with pytest.raises(DatasetError, match=r"n1_2.mat: viewpoint: expected focal"):
        list(Pascal3dReader(root, ("car",)))
    (root / "Images" / "car_imagenet" / "n1_2.JPEG").unlink()
    with pytest.raises(DatasetError, match="n1_2"):
        list(Pascal3dReader(root, ("car",)))
