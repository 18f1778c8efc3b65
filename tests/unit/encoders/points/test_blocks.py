"""The blocks against PointNeXt's layers as they are usually written: group, concatenate, linear, maximum."""

from __future__ import annotations

import torch

from pasr_perception.encoders.points.blocks import InvResMLP, LocalAggregation, neighbourhood_max, take


def made(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def groups(batch: int, count: int, size: int, rows: int) -> torch.Tensor:
    return torch.randint(rows, (batch, count, size), generator=torch.Generator().manual_seed(5))


def test_rows_are_taken_from_each_clouds_own_table() -> None:
    values, index = made(2, 5, 3), torch.tensor([[4, 0], [1, 1]])
    expected = torch.stack([values[0][[4, 0]], values[1][[1, 1]]])
    assert torch.equal(take(values, index), expected)


def test_the_neighbourhood_maximum_and_its_gradient_are_those_of_max() -> None:
    values, group = made(2, 9, 4).requires_grad_(), groups(2, 5, 3, 9)
    fast = neighbourhood_max(values, group)
    slow = torch.stack([v[g].max(1).values for v, g in zip(values, group, strict=True)])
    assert torch.equal(fast, slow)
    upstream = made(2, 5, 4, seed=3)
    (of_fast,) = torch.autograd.grad((fast * upstream).sum(), values)
    (of_slow,) = torch.autograd.grad((slow * upstream).sum(), values)
    torch.testing.assert_close(of_fast, of_slow)


def grouped_layer(
    layer: LocalAggregation, features: torch.Tensor, points: torch.Tensor, centres: torch.Tensor, group: torch.Tensor
) -> torch.Tensor:
    """The layer as papers draw it: features and relative positions of all pairs through one linear layer."""
    weight = torch.cat([layer.feature.weight, layer.position.weight], 1)
    rows = []
    for f, p, c, g in zip(features, points, centres, group, strict=True):
        relative = (p[g] - c[:, None]) / layer._radius
        pairs = torch.cat([f[g], relative], -1)  # [M, K, C + 3]
        rows.append((pairs @ weight.T + layer.feature.bias).amax(1))
    return torch.relu(layer.norm(torch.stack(rows)))


def test_local_aggregation_is_the_grouped_layer_and_so_are_its_gradients() -> None:
    torch.manual_seed(0)
    layer = LocalAggregation(6, 10, radius=0.4)
    features, points = made(2, 12, 6).requires_grad_(), made(2, 12, 3, seed=1)
    centres, group = take(points, torch.arange(4).expand(2, 4)), groups(2, 4, 5, 12)
    fast, slow = layer(features, points, centres, group), grouped_layer(layer, features, points, centres, group)
    torch.testing.assert_close(fast, slow)
    wanted = [features, layer.feature.weight, layer.position.weight, layer.norm.weight]
    of_fast = torch.autograd.grad((fast**2).sum(), wanted)
    of_slow = torch.autograd.grad((slow**2).sum(), wanted)
    for a, b in zip(of_fast, of_slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_residual_block_adds_to_what_came_in() -> None:
    torch.manual_seed(0)
    block = InvResMLP(8, radius=0.4, expansion=4)
    features, points, around = made(2, 7, 8), made(2, 7, 3, seed=1), groups(2, 7, 3, 7)
    inner = grouped_layer(block.aggregation, features, points, points, around)
    narrow = block.narrowed(block.narrow(torch.relu(block.widened(block.widen(inner)))))
    torch.testing.assert_close(block(features, points, around), torch.relu(features + narrow))
    torch.nn.init.zeros_(block.narrowed.weight)
    torch.testing.assert_close(block(features, points, around), torch.relu(features))
