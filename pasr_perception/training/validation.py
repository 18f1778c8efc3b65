"""What is watched of a point encoder while it learns: held-out meshes, whose features shall fit their views and tell them apart.

Which weights find more meshes the second says, not the first (docs/adr/0022-points-means.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pasr_perception.encoders.points.encoder import PointEncoder
from pasr_perception.training.alignment import alignment
from pasr_perception.training.dataset import MeshDataset
from pasr_perception.training.point_targets import PointTargets, shape_features
from pasr_perception.training.telling_apart import contrast, drawn

POINTS = 64  # of each mesh, that are told apart


@dataclass(frozen=True)
class Validation:
    """How well the features of held-out meshes fit."""

    known: float  # mean alignment with the views (eq. 8) of looks with known colours
    bare: float  # of looks without
    apart: float  # contrast of points in their meshes' first looks, against their means over views; less is better

    @property
    def mean(self) -> float:
        return (self.known + self.bare) / 2


@torch.no_grad()
def validate(encoder: PointEncoder, data: MeshDataset, device: torch.device, temperature: float) -> Validation:
    """How well the features of meshes observed view by view fit: all of their looks, as they are."""
    aligned: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    members: list[tuple[torch.Tensor, ...]] = []
    for batch, item in data.everything():
        batch = batch.to(device)
        features = encoder(batch.inputs, batch.pyramid)
        aligned[item.cloud.known].append(alignment(batch.wanted.predicted(features), batch.wanted).mean())
        if item.look == 0:
            shown = PointTargets.of([shape_features(data.mesh(item.mesh).looks[0], item.views)]).to(device)
            some = drawn(len(shown.target), POINTS, (0, item.mesh)).to(device)
            members.append((shown.target[some], shown.predicted(features)[some], torch.full_like(some, item.mesh)))
    known, bare = (float(torch.stack(v).mean()) if v else math.nan for v in (aligned[True], aligned[False]))
    target, predicted, mesh = (torch.cat(part) for part in zip(*members, strict=True))
    return Validation(known, bare, float(contrast(target, predicted, mesh, temperature)))
