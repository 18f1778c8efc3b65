"""The renderers that must all behave alike, and PyTorch3D 0.7.9's own output to hold them to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pasr_perception.render import pytorch3d_backend, splat, splat_reference

GOLDEN = Path(__file__).parents[2] / "data" / "pytorch3d_golden.npz"

Rasterise = Callable[[torch.Tensor, torch.Tensor, splat.SplatConfig], splat.Fragments]


@pytest.fixture(params=["fast", "reference", "pytorch3d"])
def rasterise(request: pytest.FixtureRequest) -> Rasterise:
    if request.param == "pytorch3d":
        pytest.importorskip("pytorch3d")
        return pytorch3d_backend.rasterise
    return splat.rasterise if request.param == "fast" else splat_reference.rasterise


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    """A torus of 1024 points and 8 channels at 8 poses, as PyTorch3D 0.7.9 (float32, CPU) renders it."""
    with np.load(GOLDEN) as data:
        return {name: torch.from_numpy(np.array(data[name])) for name in data.files}
