"""The shared placement: centred outline, exact fill, and no dependence on where the cloud's origin is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.viewpoints import random_rotations


def clouds(seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (500, 3)) * [0.2, 0.5, 0.8]
    rotations = random_rotations(20, rng)
    return torch.as_tensor(points @ rotations.transpose(0, 2, 1), dtype=torch.float32)


@pytest.mark.parametrize("fill", [0.5, 0.8, 1.0])
def test_longer_side_fills_and_outline_is_centred(fill):
    rotated = clouds()
    uv, depth = project(rotated, place(rotated, ViewSpec(fill=fill)), 100)
    low, high = uv.amin(1), uv.amax(1)
    assert torch.allclose((high - low).amax(1), torch.full((20,), 100 * fill), atol=0.2)
    assert ((low + high) / 2 - 50).abs().max() < 0.1
    assert depth.min() > 0


def test_the_loop_of_the_cpu_places_as_torch_does():
    rotated = clouds(1)
    one, other = place(rotated, ViewSpec(0.7, 4.0)), place(rotated.double(), ViewSpec(0.7, 4.0))
    assert one.offset.dtype == one.focal.dtype == torch.float32
    torch.testing.assert_close(one.offset.double(), other.offset, atol=2e-6, rtol=0)
    torch.testing.assert_close(one.focal.double(), other.focal, atol=0, rtol=2e-6)


def test_gradient_flows_through_points_not_through_the_placement():
    rotated = clouds().requires_grad_()
    placement = place(rotated, ViewSpec())
    assert not placement.offset.requires_grad
    uv, _ = project(rotated, placement, 28)
    uv.sum().backward()
    assert torch.isfinite(rotated.grad).all()
    assert rotated.grad.abs().sum() > 0


@pytest.mark.parametrize(("arguments", "name"), [({"fill": 0.0}, "fill"), ({"distance": 1.0}, "distance")])
def test_bad_specs_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=name):
        ViewSpec(**arguments)
