"""Ranks meshes by the global embedding: one inner product of a crop's vector with each mesh's (CMIC, the learned baseline)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pasr_perception.coarse import turn_maps
from pasr_perception.encoders.global_embedding import GlobalEmbedding
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Crop


class GlobalRanker:
    """Vectors of a library's meshes, made once, and those of crops, made as they come."""

    def __init__(self, pipeline: Pipeline, module: GlobalEmbedding) -> None:
        self._pipeline, self._module = pipeline, module.to(pipeline.device)
        library = pipeline.library
        self._ids = [entry.id for entry in library.entries]
        features = (library.data(i).features.float().to(pipeline.device) for i in range(len(self._ids)))
        self._meshes = torch.stack([self._module.embed_mesh(f) for f in features])  # [M, E]

    def rank(self, crops: Sequence[Crop]) -> list[list[tuple[str, float]]]:
        """Every mesh's id and cosine for each crop, best first."""
        maps = turn_maps(self._pipeline.encoder, crops, (0,), 1)[:, 0].to(self._meshes.device)
        boxes = torch.tensor(np.stack([c.box / len(c.image) for c in crops]), dtype=torch.float32)
        cosine = (self._module.embed_crops(maps, boxes.to(maps.device)) @ self._meshes.T).cpu()
        order = cosine.argsort(dim=1, descending=True, stable=True)
        return [[(self._ids[i], float(row[i])) for i in best] for row, best in zip(cosine, order.tolist(), strict=True)]
