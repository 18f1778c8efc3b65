"""Where a mesh's point features come from: lifted from its own rendered views, learned by a point encoder, or both.

Both speak of the same thing, the image encoder's feature at a surface point. Lifted features have seen this very mesh; learned
ones know what such surfaces look like in photos. `both` is their average at unit length, (1 - w) lifted + w learned: the score
against a query is then what [sqrt(1-w) lifted, sqrt(w) learned] would give against the query written twice, in half the memory.

Print tells meshes apart, and learned features know little of it; what has no print is told apart by its shape, of which they know
something. `auto` is thus `both` for meshes whose colours are unknown, and lifted for the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from pasr_perception.config import LibraryConfig
from pasr_perception.encoders.adapter import compared_cloud, frozen_part
from pasr_perception.encoders.base import Encoder
from pasr_perception.encoders.centring import evened_cloud
from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.encoders.points.weights import LoadedPoints, load_point_encoder
from pasr_perception.library.format import FeatureSource


@dataclass(frozen=True)
class PointFeatures:
    """Makes the features of one library's meshes."""

    source: FeatureSource
    learned: LoadedPoints | None  # None where nothing is learned
    encoder: Encoder  # whose features they are compared with

    def __call__(self, lifted: torch.Tensor, cloud: PointCloud) -> torch.Tensor:
        """Features [N, D] of one mesh's points as they are compared, from its centred lifted ones and its cloud, up axis +y.

        What an adapter adds is made of them; the lifted ones [N, D] have no more than room for it.
        """
        return compared_cloud(self.encoder, self._frozen(lifted[:, : frozen_part(self.encoder).dim], cloud))

    def _frozen(self, lifted: torch.Tensor, cloud: PointCloud) -> torch.Tensor:
        if self.learned is None or (self.source.kind == "auto" and cloud.known):
            return lifted
        learned = evened_cloud(normalize(self.learned.encoder.encode(cloud), dim=1))
        if self.source.kind == "learned":
            return learned
        return normalize((1 - self.source.share) * lifted + self.source.share * learned, dim=1)


def point_features(config: LibraryConfig, encoder: Encoder) -> PointFeatures:
    """As configured, beside this image encoder; raises EncoderError where its point encoder is missing or does not fit."""
    if config.features == "lifted":
        return PointFeatures(FeatureSource(), None, encoder)
    frozen = frozen_part(encoder)
    loaded = load_point_encoder(config.point_encoder, (frozen.name, frozen.fingerprint), torch.device("cpu"))
    share = 1.0 if config.features == "learned" else config.learned_share
    return PointFeatures(FeatureSource(config.features, loaded.fingerprint, share), loaded, encoder)
