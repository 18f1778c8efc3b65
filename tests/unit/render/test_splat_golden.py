"""Held to PyTorch3D 0.7.9's own output: points, distances, images and pose gradients.

From the same projected points everything but rounding must agree. Rounding: PyTorch3D's float32 distances are off by
up to about 6e-9 (NDC squared); a weight divides that by r^2 = 1.6e-3, a pixel whose weights sum to little divides it
again. So distances are held to 1e-8, images to 1e-6 of the exact (float64) image of PyTorch3D's own selection, and
the float32 images of both to quantiles.
"""

from __future__ import annotations

import math

import pytest
import torch

from pasr_perception.render.pytorch3d_conventions import pixels_from_ndc
from pasr_perception.render.splat import Fragments, SplatConfig, composite, rasterise, splat

POSE = 2  # of the golden gradients
CONFIG = SplatConfig(size=37, radius=0.04, points_per_pixel=16)


def golden_fragments(golden: dict[str, torch.Tensor], poses: slice = slice(None)) -> Fragments:
    """PyTorch3D's selection and weights as Fragments."""
    slots = CONFIG.points_per_pixel
    index, d2 = golden["idx"][poses].reshape(-1, slots).long(), golden["dist2"][poses].reshape(-1, slots)
    pixel = (index[:, 0] >= 0).nonzero()[:, 0]
    index, d2 = index[pixel], d2[pixel]
    weight = torch.where(index >= 0, 1 - d2 / CONFIG.radius**2, torch.zeros_like(d2))
    return Fragments(pixel, torch.where(index >= 0, index % len(golden["points"]), -1), weight)


def exact_weights(golden: dict[str, torch.Tensor], fragments: Fragments) -> torch.Tensor:
    """The weights of a selection in float64 from the shared NDC points, written out as PyTorch3D defines them."""
    size = CONFIG.size
    pose, row, column = fragments.pixel // size**2, fragments.pixel // size % size, fragments.pixel % size
    centre = 1 - (2 * torch.stack([column, row], -1).double() + 1) / size  # +X left, +Y up
    at = golden["ndc"].double()[pose[:, None], fragments.index.clamp(min=0), :2]
    weight = 1 - (at - centre[:, None]).square().sum(-1) / CONFIG.radius**2
    return torch.where(fragments.index >= 0, weight, 0)


def view(elevation: torch.Tensor, azimuth: torch.Tensor) -> torch.Tensor:
    """R_crop_obj [3, 3], differentiable, of a camera at (cos e sin a, sin e, cos e cos a) looking at the origin."""
    ce, se, ca, sa = elevation.cos(), elevation.sin(), azimuth.cos(), azimuth.sin()
    forward = -torch.stack([ce * sa, se, ce * ca])
    right = torch.stack([ca, torch.zeros_like(ca), -sa])
    return torch.stack([right, torch.linalg.cross(forward, right), forward])


def project(golden: dict[str, torch.Tensor], rotation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The torus through our own pinhole camera: uv [B, N, 2], depth [B, N] for R_crop_obj [B, 3, 3]."""
    points = golden["points"].to(rotation.dtype) @ rotation.transpose(1, 2)
    depth = points[..., 2] + golden["dist"]
    return golden["focal_px"] * points[..., :2] / depth[..., None] + golden["principal_px"], depth


def test_from_shared_ndc_every_backend_takes_the_same_points(rasterise, golden):
    poses = slice(2, 4)
    ndc = golden["ndc"][poses]
    expected = golden_fragments(golden, poses)
    got = rasterise(pixels_from_ndc(ndc[..., :2], CONFIG.size), ndc[..., 2], CONFIG)
    assert torch.equal(got.pixel, expected.pixel)
    assert torch.equal(got.index, expected.index)
    distance_error = (got.weight - expected.weight).abs().max() * CONFIG.radius**2
    assert distance_error <= 2e-8


def test_from_shared_ndc_all_poses(golden):
    expected = golden_fragments(golden)
    ndc = golden["ndc"].double()
    got = rasterise(pixels_from_ndc(ndc[..., :2], CONFIG.size), ndc[..., 2], CONFIG)
    assert torch.equal(got.pixel, expected.pixel)
    assert torch.equal(got.index, expected.index)
    torch.testing.assert_close(got.weight, exact_weights(golden, expected), atol=1e-6, rtol=0)
    assert (got.weight - expected.weight).abs().max() * CONFIG.radius**2 <= 1e-8


def test_depths_are_those_of_the_chosen_points(golden):
    fragments = golden_fragments(golden)
    pose = fragments.pixel // CONFIG.size**2
    taken = golden["ndc"][pose[:, None], fragments.index.clamp(min=0), 2]
    zbuf = golden["zbuf"].reshape(-1, CONFIG.points_per_pixel)[fragments.pixel]
    assert torch.equal(taken[fragments.index >= 0], zbuf[fragments.index >= 0])


def test_compositing_of_the_golden_fragments(golden):
    fragments = golden_fragments(golden)
    expected = golden["image"].reshape(-1, golden["features"].shape[1])[fragments.pixel]
    torch.testing.assert_close(composite(fragments, golden["features"]), expected, atol=1e-6, rtol=1e-6)


def test_image_from_shared_ndc(golden):
    ndc, features = golden["ndc"].double(), golden["features"].double()
    image, mask = splat(pixels_from_ndc(ndc[..., :2], CONFIG.size), ndc[..., 2], features, CONFIG)
    image = image.permute(0, 2, 3, 1)
    assert torch.equal(mask, golden["idx"][..., 0] >= 0)

    fragments = golden_fragments(golden)
    exact = Fragments(fragments.pixel, fragments.index, exact_weights(golden, fragments))
    torch.testing.assert_close(image[mask], composite(exact, features), atol=1e-6, rtol=0)

    error = (image - golden["image"]).abs()
    assert error.max() <= 1e-4
    assert error[mask].quantile(0.99) <= 1e-5
    assert error[mask].median() <= 1e-6


def test_end_to_end_from_angles(golden):
    """Our own camera in float32: either side's rounding may put a point on the other side of a pixel's rim."""
    elevation, azimuth = torch.deg2rad(golden["elev_deg"]), torch.deg2rad(golden["azim_deg"])
    rotation = torch.stack([view(e, a) for e, a in zip(elevation, azimuth, strict=True)])
    image, mask = splat(*project(golden, rotation), golden["features"], CONFIG)
    error = (image.permute(0, 2, 3, 1) - golden["image"]).abs()
    assert (mask != (golden["idx"][..., 0] >= 0)).sum() <= 2
    assert error[mask].quantile(0.999) <= 3e-4
    assert error[mask].quantile(0.99) <= 1e-4
    assert error[mask].median() <= 1e-6


def masked_cosine_loss(image: torch.Tensor, mask: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over covered pixels of 1 - cosine, image [D, S, S], mask [S, S], target [S, S, D]."""
    return (1 - torch.cosine_similarity(image.permute(1, 2, 0)[mask], target[mask], dim=-1)).mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_with_respect_to_elevation_and_azimuth(golden, dtype):
    angles = [math.radians(golden[name][POSE].item()) for name in ("elev_deg", "azim_deg")]
    elevation, azimuth = (torch.tensor(angle, dtype=dtype, requires_grad=True) for angle in angles)
    uv, depth = project(golden, view(elevation, azimuth)[None])
    image, mask = splat(uv, depth, golden["features"].to(dtype), CONFIG)
    loss = masked_cosine_loss(image[0], mask[0], golden["target"].to(dtype))
    loss.backward()
    assert loss.item() == pytest.approx(golden["loss"].item(), abs=1e-6)
    assert elevation.grad.item() == pytest.approx(golden["dloss_delev"].item(), rel=1e-4)
    assert azimuth.grad.item() == pytest.approx(golden["dloss_dazim"].item(), rel=1e-4)
