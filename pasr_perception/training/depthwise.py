"""Depthwise convolutions that are not tuned, with the gradient by their input alone.

A network's depthwise weights are a twentieth of it, and on a CPU their gradient takes most of a step. By the input it is another
depthwise convolution, with the kernel turned round.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.functional import conv2d

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class _ByInput(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: int, dilation: int
    ) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.padding, ctx.dilation = padding, dilation
        return conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (weight,) = gradients, ctx.saved_tensors
        turned = weight.flip(2, 3)
        by_input = conv2d(gradient, turned, padding=ctx.padding, dilation=ctx.dilation, groups=len(weight))
        return by_input, None, None, None, None


class FrozenDepthwise(nn.Module):
    """Takes the place of a depthwise convolution of stride 1 that keeps an image's size; its state is the same."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        side, _ = convolution.kernel_size
        (self._dilation, _), self._padding = convolution.dilation, convolution.dilation[0] * (side // 2)
        assert convolution.stride == (1, 1)
        assert convolution.padding == (self._padding,) * 2
        assert convolution.bias is not None
        self.register_buffer("weight", convolution.weight.detach().clone())
        self.register_buffer("bias", convolution.bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = _ByInput.apply(x, self.weight, self.bias, self._padding, self._dilation)
        return found


def with_frozen_depthwise(module: AnyModule) -> AnyModule:
    """The module with its depthwise convolutions replaced."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.groups == child.in_channels > 1:
            setattr(module, name, FrozenDepthwise(child))
        else:
            with_frozen_depthwise(child)
    return module
