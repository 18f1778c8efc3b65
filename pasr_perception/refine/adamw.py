"""Refinement by gradient descent on eq. 8, as published: AdamW over the rotation (PASR 3.3). The reference for others.

The paper moves elevation, azimuth and in-plane angle. The same three unknowns are moved here as a rotation tangent, applied in
the crop camera's frame: R = exp(w) R_0. It has no pole, so it serves poses from anywhere on SO(3). The object's place in the
crop follows from its outline at every step (`geometry/placement.py`), as it did when the templates were made.
"""

from __future__ import annotations

import torch

from pasr_perception.config import RefineConfig
from pasr_perception.geometry.se3 import exp_so3
from pasr_perception.refine.problem import Cells, Clouds, Hypotheses, Pose, Refined, RenderScene
from pasr_perception.refine.similarity import similarity_to_cells


def refine_adamw(start: Hypotheses, clouds: Clouds, cells: Cells, scene: RenderScene, config: RefineConfig) -> Refined:
    """Minimise 1 - similarity over each hypothesis' rotation; returns the best rotation that was visited, start included."""
    tangent = torch.zeros(len(start.rotation), 3, device=start.rotation.device, requires_grad=True)
    optimiser = torch.optim.AdamW([tangent], lr=config.learning_rate, weight_decay=config.weight_decay)
    best = torch.full((len(start.rotation),), -torch.inf, device=start.rotation.device)
    rotation = start.rotation.clone()
    for step in range(config.steps + 1):
        with torch.set_grad_enabled(step < config.steps):
            moved = exp_so3(tangent) @ start.rotation
            now = similarity_to_cells(moved, start.cloud, start.crop, clouds, cells.unit, scene)
        better = now.detach() > best
        best = torch.where(better, now.detach(), best)
        rotation = torch.where(better[:, None, None], moved.detach(), rotation)
        if step < config.steps:
            optimiser.zero_grad()
            (1 - now).sum().backward()
            optimiser.step()
    return Refined.of(Pose.by_outline(rotation), best)
