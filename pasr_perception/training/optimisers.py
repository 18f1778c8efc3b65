"""What moves the weights: AdamW (PASR 3.4), or Muon (Jordan et al. 2024) for matrices and AdamW for what is none.

Muon replaces a matrix's momentum by the nearest matrix whose singular values are all alike, so that directions which few examples
ask for are learned as fast as those which all do. Scaled as AdamW's steps are (Liu et al. 2025), it takes AdamW's rate and decay.
`torch.optim.Muon` computes in bfloat16, which a CPU without it takes twenty times as long for, and is missing before torch 2.9.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from pasr_perception.training.config import TrainConfig

MUON_MOMENTUM = 0.95
# quintic whose iterates take singular values from (0, 1] to about 0.7 to 1.2 in so few steps (Jordan et al. 2024)
QUINTIC, QUINTIC_STEPS = (3.4445, -4.7750, 2.0315), 5
ADAMW_RMS = 0.2  # of an entry of AdamW's steps, usually (Liu et al. 2025, 2.2)


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix [n, m] with its singular vectors and singular values near 1, by Newton-Schulz iterations."""
    if len(matrix) > matrix.shape[1]:  # so that products of rows are the smaller ones
        return orthogonalised(matrix.T).T
    a, b, c = QUINTIC
    x = matrix / matrix.norm().clamp(min=1e-7)
    for _ in range(QUINTIC_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Of matrices alone; raises ValueError for anything else."""

    def __init__(self, matrices: Iterable[torch.Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        shapes = {tuple(p.shape) for group in self.param_groups for p in group["params"] if p.ndim != 2}
        if shapes:
            raise ValueError(f"matrices: expected tensors of two dimensions, got {sorted(shapes)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # losses are not asked for again
        """One step along the momentum that the gradients lead to (Nesterov), orthogonalised."""
        for group in self.param_groups:
            for weight in (p for p in group["params"] if p.grad is not None):
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - MUON_MOMENTUM)
                turned = orthogonalised(weight.grad.lerp(momentum, MUON_MOMENTUM))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(turned, alpha=group["lr"] * ADAMW_RMS * max(weight.shape) ** 0.5)


def optimisers_of(module: nn.Module, config: TrainConfig) -> tuple[torch.optim.Optimizer, ...]:
    """What moves a module's parameters by a recipe: each parameter in one of them."""
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimiser == "adamw":
        return (torch.optim.AdamW(module.parameters(), **options),)
    matrices = [p for p in module.parameters() if p.ndim == 2]
    others = [p for p in module.parameters() if p.ndim != 2]
    return Muon(matrices, **options), torch.optim.AdamW(others, **options)
