"""The whole of PyTorch3D's point renderer, live, against ours: same points and pose in, same image and gradient out."""

from __future__ import annotations

import pytest
import torch

from pasr_perception.render import pytorch3d_backend
from pasr_perception.render.pytorch3d_conventions import pose_to_pytorch3d
from pasr_perception.render.splat import SplatConfig, rasterise, splat

pytest.importorskip("pytorch3d")

SIZE, FOCAL, PRINCIPAL = 21, 25.0, (10.0, 11.5)
CONFIG = SplatConfig(size=SIZE, radius=0.08, points_per_pixel=8)


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points [N, 3], features [N, D], R_crop_obj [2, 3, 3], t_crop [2, 3]."""
    generator = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(600, 3, generator=generator), dim=1) * torch.tensor(
        [0.9, 0.6, 0.4]
    )
    rotation = torch.linalg.qr(torch.randn(2, 3, 3, generator=generator)).Q
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    translation = torch.tensor([[0.1, -0.05, 2.5], [0.0, 0.2, 2.0]])
    return points, torch.randn(600, 4, generator=generator), rotation, translation


def ours(
    points: torch.Tensor, features: torch.Tensor, rotation: torch.Tensor, translation: torch.Tensor
) -> torch.Tensor:
    seen = points @ rotation.transpose(1, 2) + translation[:, None]
    uv = FOCAL * seen[..., :2] / seen[..., 2:] + torch.tensor(PRINCIPAL)
    return splat(uv, seen[..., 2], features, CONFIG)[0]


def theirs(
    points: torch.Tensor, features: torch.Tensor, rotation: torch.Tensor, translation: torch.Tensor
) -> torch.Tensor:
    from pytorch3d.renderer import (
        NormWeightedCompositor,
        PerspectiveCameras,
        PointsRasterizationSettings,
        PointsRasterizer,
        PointsRenderer,
    )
    from pytorch3d.structures import Pointclouds

    matrix, offset = pose_to_pytorch3d(rotation, translation)
    cameras = PerspectiveCameras(
        R=matrix, T=offset, focal_length=FOCAL, principal_point=(PRINCIPAL,), in_ndc=False, image_size=((SIZE, SIZE),)
    )
    settings = PointsRasterizationSettings(
        image_size=SIZE, radius=CONFIG.radius, points_per_pixel=CONFIG.points_per_pixel
    )
    renderer = PointsRenderer(PointsRasterizer(cameras, settings), NormWeightedCompositor())
    clouds = Pointclouds(list(points.expand(2, -1, -1)), features=list(features.expand(2, -1, -1)))
    return renderer(clouds).permute(0, 3, 1, 2)


def test_image_and_pose_gradient():
    points, features, rotation, translation = scene()
    target = torch.randn(2, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    results = []
    for renderer in (ours, theirs):
        r, t = rotation.clone().requires_grad_(), translation.clone().requires_grad_()
        image = renderer(points, features, r, t)
        torch.nn.functional.cosine_similarity(image, target, dim=1).sum().backward()
        results.append((image.detach(), r.grad, t.grad))
    (image, *gradients), (expected_image, *expected_gradients) = results
    error = (image - expected_image).abs()
    assert expected_image.abs().max() > 1
    assert error.median() <= 1e-6
    assert error.quantile(0.999) <= 1e-3
    for got, expected in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-2 * expected.abs().max().item())


@pytest.mark.parametrize("depth_band", [None, 0.2])
def test_backend_takes_the_same_points_as_the_default(depth_band):
    config = SplatConfig(size=SIZE, radius=0.08, points_per_pixel=8, depth_band=depth_band)
    generator = torch.Generator().manual_seed(2)
    uv, depth = torch.rand(3, 500, 2, generator=generator) * SIZE, 2 + torch.rand(3, 500, generator=generator)
    uv.requires_grad_()
    gradients = []
    fragments = []
    for select in (rasterise, pytorch3d_backend.rasterise):
        fragments.append(select(uv, depth, config))
        gradients.append(torch.autograd.grad(fragments[-1].weight.square().sum(), uv)[0])
    assert torch.equal(fragments[0].pixel, fragments[1].pixel)
    assert torch.equal(fragments[0].index, fragments[1].index)
    torch.testing.assert_close(fragments[0].weight, fragments[1].weight, atol=2e-5, rtol=0)
    torch.testing.assert_close(gradients[0], gradients[1], atol=2e-4, rtol=1e-4)
