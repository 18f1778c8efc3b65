"""A small point encoder and clouds for it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.encoders.points.config import PointEncoderConfig


@pytest.fixture(scope="session")
def small(small_points: PointEncoderConfig) -> PointEncoderConfig:
    return dataclasses.replace(small_points, dim=16, input_points=96, scales=(48, 24, 12, 6), radius=0.3, hidden=12)


@pytest.fixture
def clouds() -> list[PointCloud]:
    """Three of 130 points: two with colours, one without."""
    g = torch.Generator().manual_seed(2)
    made = []
    for known in (True, True, False):
        points = torch.nn.functional.normalize(torch.randn(130, 3, generator=g), dim=1) * torch.tensor([0.5, 0.9, 0.3])
        normals = torch.nn.functional.normalize(torch.randn(130, 3, generator=g), dim=1)
        made.append(PointCloud(points, normals, torch.rand(130, 3, generator=g) * known, known))
    return made
