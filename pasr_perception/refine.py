"""Refinement of the best candidates by gradient descent on eq. 8, as published: AdamW over the rotation (PASR 3.3).

The paper moves elevation, azimuth and in-plane angle. The same three unknowns are moved here as a rotation tangent, applied in
the crop camera's frame: R = exp(w) R_0. It has no pole, so it serves poses from anywhere on SO(3). The object's place in the
crop follows from its outline at every step (`geometry/placement.py`), as it did when the templates were made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pasr_perception.config import RefineConfig
from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.se3 import exp_so3
from pasr_perception.render.splat import SplatConfig, composite, rasterise


@dataclass(frozen=True)
class Clouds:
    """The point clouds of the meshes that take part."""

    points: torch.Tensor  # [C, N, 3] float32, normalised frame
    features: torch.Tensor  # [C, N, D] float32


@dataclass(frozen=True)
class Refined:
    rotation: torch.Tensor  # [H, 3, 3]
    similarity: torch.Tensor  # [H] eq. 8 at that rotation


def similarity(
    rotation: torch.Tensor,
    cloud: torch.Tensor,
    crop: torch.Tensor,
    clouds: Clouds,
    maps: torch.Tensor,
    scene: RenderScene,
) -> torch.Tensor:
    """Masked mean cosine [H] of hypotheses: rotation [H, 3, 3] of clouds [H] against maps [B, D, g, g] of crops [H]."""
    size = scene.splat.size
    rotated = clouds.points[cloud] @ rotation.transpose(1, 2)  # [H, N, 3]
    uv, depth = project(rotated, place(rotated, scene.view), size)
    fragments = rasterise(uv, depth, scene.splat)
    hypothesis = fragments.pixel // (size * size)
    rendered = composite(fragments, clouds.features, cloud[hypothesis])  # [M, D]
    flat = maps.flatten(2).transpose(1, 2).reshape(-1, maps.shape[1])  # [B*g*g, D]
    seen = flat[crop[hypothesis] * (size * size) + fragments.pixel % (size * size)]
    cosine = torch.nn.functional.cosine_similarity(rendered, seen, dim=-1)
    total = cosine.new_zeros(len(rotation)).index_add(0, hypothesis, cosine)
    area = torch.bincount(hypothesis, minlength=len(rotation)).clamp(min=1)
    return total / area


@dataclass(frozen=True)
class RenderScene:
    """What rendering needs besides the cloud: the crop's geometry and the splatting."""

    view: ViewSpec
    splat: SplatConfig


@dataclass(frozen=True)
class Hypotheses:
    """What is to be refined: H starting rotations, each of one cloud in one crop."""

    rotation: torch.Tensor  # [H, 3, 3] float32, R_crop_obj
    cloud: torch.Tensor  # [H] int64 into the clouds
    crop: torch.Tensor  # [H] int64 into the maps


def refine(start: Hypotheses, clouds: Clouds, maps: torch.Tensor, scene: RenderScene, config: RefineConfig) -> Refined:
    """Minimise 1 - similarity over each hypothesis' rotation; returns the best rotation that was visited, start included."""
    tangent = torch.zeros(len(start.rotation), 3, device=maps.device, requires_grad=True)
    optimiser = torch.optim.AdamW([tangent], lr=config.learning_rate, weight_decay=config.weight_decay)
    best = torch.full((len(start.rotation),), -torch.inf, device=maps.device)
    rotation = start.rotation.clone()
    for step in range(config.steps + 1):
        with torch.set_grad_enabled(step < config.steps):
            moved = exp_so3(tangent) @ start.rotation
            now = similarity(moved, start.cloud, start.crop, clouds, maps, scene)
        better = now.detach() > best
        best = torch.where(better, now.detach(), best)
        rotation = torch.where(better[:, None, None], moved.detach(), rotation)
        if step < config.steps:
            optimiser.zero_grad()
            (1 - now).sum().backward()
            optimiser.step()
    return Refined(rotation, best)
