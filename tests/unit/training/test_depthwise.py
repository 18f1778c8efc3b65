"""Depthwise convolutions whose kernels stay: the same images, and the same gradient by them, as torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pasr_perception.training.depthwise import with_frozen_depthwise


def network(side: int, dilation: int) -> nn.Sequential:
    torch.manual_seed(0)
    padding = dilation * (side // 2)
    depthwise = nn.Conv2d(6, 6, side, padding=padding, dilation=dilation, groups=6)
    return nn.Sequential(nn.Conv2d(4, 6, 1), nn.Sequential(depthwise), nn.Conv2d(6, 2, 1)).double()


@pytest.mark.parametrize(("side", "dilation"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_images_and_gradients_are_torchs(side: int, dilation: int) -> None:
    theirs, ours = network(side, dilation), with_frozen_depthwise(network(side, dilation))
    images = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    found = []
    for of in (theirs, ours):
        x = images.clone().requires_grad_()
        shown = of(x)
        shown.square().sum().backward()
        found.append((shown.detach(), x.grad, of[0].weight.grad, of[2].weight.grad))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


def test_only_the_kernels_stay_and_the_state_is_the_same() -> None:
    theirs, ours = network(3, 2), with_frozen_depthwise(network(3, 2))
    assert {name for name, _ in ours.named_parameters()} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
