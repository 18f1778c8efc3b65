"""Product maps: exact in the middle of cells, and with the derivatives of what lies between."""

from __future__ import annotations

import torch

from pasr_perception.refine.products import look_up

SIZE = 9


def test_the_middle_of_a_cell_is_the_cell() -> None:
    maps = torch.randn(1, 1, SIZE * SIZE, generator=torch.Generator().manual_seed(0)).double()
    v, u = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    middles = torch.stack([u, v], -1).reshape(1, -1, 2) + 0.5
    value = look_up(maps.expand(1, SIZE * SIZE, -1), middles.double(), SIZE)[0]
    torch.testing.assert_close(value[0], maps[0, 0])


def test_a_parabola_comes_back_with_its_derivatives() -> None:
    """Catmull-Rom interpolation is exact for quadratics away from the border."""
    v, u = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    maps = (0.3 * u * u - 0.2 * v * v + 0.5 * u - v).double().reshape(1, 1, -1)
    uv = torch.tensor([[[4.2, 3.9]]]).double()
    value, gradient, hessian = look_up(maps, uv, SIZE)
    x, y = uv[0, 0]
    torch.testing.assert_close(value[0, 0], 0.3 * x * x - 0.2 * y * y + 0.5 * x - y)
    torch.testing.assert_close(gradient[0, 0], torch.stack([0.6 * x + 0.5, -0.4 * y - 1]))
    torch.testing.assert_close(hessian[0, 0], torch.tensor([[0.6, 0.0], [0.0, -0.4]]).double(), rtol=0, atol=1e-5)


def test_derivatives_agree_with_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(1, 1, SIZE * SIZE, generator=generator).double().expand(1, 40, -1)
    uv = 1.6 + 5.8 * torch.rand(1, 40, 2, generator=generator).double()
    _, gradient, hessian = look_up(maps, uv, SIZE)
    step = 1e-6
    for axis in range(2):
        move = step * torch.eye(2).double()[axis]
        after, before = look_up(maps, uv + move, SIZE), look_up(maps, uv - move, SIZE)
        torch.testing.assert_close(gradient[..., axis], (after[0] - before[0]) / (2 * step), rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(hessian[..., axis], (after[1] - before[1]) / (2 * step), rtol=1e-4, atol=1e-5)


def test_beyond_the_border_the_maps_go_on() -> None:
    maps = torch.arange(SIZE * SIZE).double().reshape(1, 1, -1).expand(1, 2, -1)
    value = look_up(maps, torch.tensor([[[-3.0, -5.0], [20.0, 0.5]]]).double(), SIZE)[0]
    torch.testing.assert_close(value[0], torch.tensor([0.0, SIZE - 1.0]).double())
