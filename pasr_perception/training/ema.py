"""A running average of the weights: what is validated and shipped."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


class Averaged(Generic[Module]):
    """Exponential moving average of a module's parameters; young averages forget faster (decay (1 + n) / (10 + n))."""

    def __init__(self, module: Module, decay: float) -> None:
        self._decay = decay
        self.updates = 0
        self.module = copy.deepcopy(module)
        self.module.requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for mine, new in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(new.detach(), 1 - decay)
