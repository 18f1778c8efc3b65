"""What is watched while training: alignment of views by whether colours are known, and whether points tell meshes apart."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from pasr_perception.training.alignment import alignment
from pasr_perception.training.dataset import MeshDataset
from pasr_perception.training.point_targets import shape_features
from pasr_perception.training.validation import POINTS, validate

CPU = torch.device("cpu")


@pytest.fixture
def data(cache, points_config, shared_parts) -> MeshDataset:
    return MeshDataset(cache, "train", points_config)


def ideal(data: MeshDataset, points: int, dim: int) -> Callable[..., torch.Tensor]:
    """An encoder that knows what the first look of each mesh shows; other looks come in the order of `everything`."""
    looks = [mesh.looks[0] for mesh in map(data.mesh, range(len(data))) for _ in mesh.looks]
    shown = iter([shape_features(look, look.views) for look in looks])

    def encode(inputs: torch.Tensor, pyramid: object) -> torch.Tensor:
        seen, features = next(shown)
        out = torch.zeros(1, points, dim)
        out[0, seen] = features
        return out

    return encode


def test_features_of_another_mesh_are_told_apart_less_than_ones_own(data: MeshDataset, points_config) -> None:
    size = (len(data.mesh(0).looks[0].cloud.points), points_config.dim)
    right = validate(ideal(data, *size), data, CPU, 0.07)  # type: ignore[arg-type]
    g = torch.Generator().manual_seed(0)
    chance = validate(lambda *_: torch.randn(1, *size, generator=g), data, CPU, 0.07)  # type: ignore[arg-type]
    assert right.apart < 0.5 * math.log(POINTS)
    assert chance.apart > math.log(POINTS)
    assert right.known > chance.known + 0.2


def test_alignment_is_that_of_views_by_whether_colours_are_known(data: MeshDataset, points_config) -> None:
    size = (len(data.mesh(0).looks[0].cloud.points), points_config.dim)
    features = torch.randn(1, *size, generator=torch.Generator().manual_seed(1))
    told = validate(lambda *_: features, data, CPU, 0.07)  # type: ignore[arg-type]
    for known, value in ((True, told.known), (False, told.bare)):
        means = [
            float(alignment(batch.wanted.predicted(features), batch.wanted).mean())
            for batch, item in data.everything()
            if item.cloud.known == known
        ]
        assert value == pytest.approx(sum(means) / len(means), abs=1e-6)
    assert told.mean == pytest.approx((told.known + told.bare) / 2)
