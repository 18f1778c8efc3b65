"""PyTorch3D's cameras in our conventions, against the golden cameras and their projected points."""

from __future__ import annotations

import math

import numpy as np
import torch

from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.render.pytorch3d_conventions import (
    ndc_from_pixels,
    pixels_from_ndc,
    pose_from_pytorch3d,
    pose_to_pytorch3d,
)


def test_corners_of_the_image():
    corners = torch.tensor([[0.0, 0.0], [37.0, 0.0], [37.0, 37.0], [18.5, 18.5]])
    expected = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]])  # +X left, +Y up
    torch.testing.assert_close(ndc_from_pixels(corners, 37), expected)
    torch.testing.assert_close(pixels_from_ndc(expected, 37), corners)


def test_golden_cameras_are_our_look_at(golden):
    rotation, translation = pose_from_pytorch3d(golden["R"].double(), golden["T"].double())
    for e, a, r, t in zip(golden["elev_deg"], golden["azim_deg"], rotation, translation, strict=True):
        np.testing.assert_allclose(r.numpy(), look_at(math.radians(e), math.radians(a)), atol=1e-6)
        np.testing.assert_allclose(t.numpy(), [0, 0, golden["dist"].item()], atol=1e-6)


def test_golden_points_project_where_pytorch3d_put_them(golden):
    rotation, translation = pose_from_pytorch3d(golden["R"].double(), golden["T"].double())
    points = golden["points"].double() @ rotation.transpose(1, 2) + translation[:, None]
    uv = golden["focal_px"] * points[..., :2] / points[..., 2:] + golden["principal_px"]
    torch.testing.assert_close(ndc_from_pixels(uv, 37), golden["ndc"][..., :2].double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(points[..., 2], golden["ndc"][..., 2].double(), atol=1e-6, rtol=0)


def test_there_and_back(golden):
    rotation, translation = pose_to_pytorch3d(*pose_from_pytorch3d(golden["R"], golden["T"]))
    assert torch.equal(rotation, golden["R"])
    assert torch.equal(translation, golden["T"])


def test_rotations_stay_proper(golden):
    rotation, _ = pose_from_pytorch3d(golden["R"].double(), golden["T"].double())
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(8, dtype=torch.float64), atol=1e-6, rtol=0)
