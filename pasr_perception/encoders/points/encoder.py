"""The point encoder of PASR (3.2, eq. 1-6): PointNeXt, its last three scales interpolated back to the points, MLP, LayerNorm.

Read upwards: `blocks.py` computes, `pyramid.py` says who is whose neighbour, `sampling.py` finds out.
"""

from __future__ import annotations

import torch
from torch import nn

from pasr_perception.encoders.points.blocks import InvResMLP, LocalAggregation, rows_of, take
from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.encoders.points.config import OUTPUT_SCALES, PointEncoderConfig
from pasr_perception.encoders.points.pyramid import Interpolation, Pyramid, Scale, build_pyramid


def point_inputs(cloud: PointCloud, config: PointEncoderConfig) -> torch.Tensor:
    """What the encoder sees of a cloud's first `input_points`: [n, channels], positions first."""
    n = config.input_points
    seen = [cloud.points[:n]]
    if config.normals:
        x, y, z = cloud.normals[:n].unbind(1)
        seen.append(torch.stack([x * x, y * y, z * z, x * y, y * z, z * x], 1))
    if config.colours:
        seen += [cloud.colours[:n], cloud.points.new_full((len(seen[0]), 1), float(cloud.known))]
    return torch.cat(seen, 1)


def interpolate(features: torch.Tensor, by: Interpolation) -> torch.Tensor:
    """Eq. 5: features [B, M, C] of one scale at all points -> [B, N, C]."""
    rows = rows_of(by.index, features.shape[1]).flatten(0, 1)  # [B * N, k]
    weight = by.weight.flatten(0, 1).to(features.dtype)
    mixed = nn.functional.embedding_bag(rows, features.flatten(0, 1), per_sample_weights=weight, mode="sum")
    return mixed.view(*by.index.shape[:2], -1)


class Stage(nn.Module):
    """From one scale to the next: set abstraction, then InvResMLP blocks."""

    def __init__(self, channels_in: int, scale: int, config: PointEncoderConfig) -> None:
        super().__init__()
        width, radius = config.widths[scale], config.radius_of(scale)
        self.abstraction = LocalAggregation(channels_in, width, radius)
        self.blocks = nn.ModuleList(InvResMLP(width, 2 * radius, config.expansion) for _ in range(config.blocks[scale]))

    def forward(self, features: torch.Tensor, points: torch.Tensor, scale: Scale) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, N, C] and points [B, N, 3] of the scale before -> those of this one."""
        centres = take(points, scale.centre)
        features = self.abstraction(features, points, centres, scale.group)
        for block in self.blocks:
            features = block(features, centres, scale.around)
        return features, centres


class PointEncoder(nn.Module):
    """Clouds in, one feature of the image encoder's kind per point out."""

    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(nn.Linear(config.channels, config.stem), nn.LayerNorm(config.stem), nn.ReLU())
        before = (config.stem, *config.widths)
        self.stages = nn.ModuleList(Stage(before[i], i, config) for i in range(len(config.widths)))
        # the output MLP's first layer, in one part per scale: it is linear, as interpolation is, so it may go before
        self.lateral = nn.ModuleList(nn.Linear(width, config.hidden) for width in config.widths[-OUTPUT_SCALES:])
        self.head = nn.Sequential(nn.LayerNorm(config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.dim))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, inputs: torch.Tensor, pyramid: Pyramid) -> torch.Tensor:
        """Inputs [B, n, channels] (`point_inputs`) and their pyramid -> features [B, N, D], not of unit length."""
        points, features = inputs[..., :3], self.stem(inputs)
        at_scale = []
        for stage, scale in zip(self.stages, pyramid.scales, strict=True):
            features, points = stage(features, points, scale)
            at_scale.append(features)
        parts = zip(self.lateral, at_scale[-OUTPUT_SCALES:], pyramid.back, strict=True)
        hidden = sum(interpolate(lateral(features), by) for lateral, features, by in parts)
        return self.norm(self.head(hidden))

    @torch.no_grad()
    def encode(self, cloud: PointCloud) -> torch.Tensor:
        """Features [N, D] of one cloud's points, on its device."""
        pyramid = build_pyramid(cloud.points, self.config)
        return self(point_inputs(cloud, self.config)[None], pyramid)[0]
