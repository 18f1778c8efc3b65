"""What a mesh's rendered views gave, taken from a lifted library instead of being rendered again.

Rendering and encoding views is nearly all of a build's time. A library of learned features, or of both, needs nothing of them
that the lifted library of the same meshes does not hold.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pasr_perception.encoders.adapter import frozen_part, with_room
from pasr_perception.encoders.base import Encoder
from pasr_perception.library.format import FeatureSource, LibraryHeader
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.sample import SurfaceSamples
from pasr_perception.library.store import LibraryError, MeshLibrary

SAME_POINT = 1e-5  # of the object's radius


@dataclass(frozen=True)
class SeenMesh:
    """One mesh in its views."""

    lifted: torch.Tensor  # [N, D] centred unit features
    weight: torch.Tensor  # [N] how well each point was seen
    view_rotation: torch.Tensor  # [V, 3, 3]
    view_pooled: torch.Tensor  # [V, D] float16, mean feature of each view's box


class SeenMeshes:
    """The meshes of a lifted library, as they were seen."""

    def __init__(self, path: str | Path, header: LibraryHeader, encoder: Encoder) -> None:
        """Raises LibraryError unless the library is lifted and fixes for its queries what `header` does.

        Where `encoder` adapts its features, it must have been lifted by the frozen ones.
        """
        self._library = MeshLibrary.open(path)
        mine, frozen = self._library.header, frozen_part(encoder)
        self._room = encoder.dim - frozen.dim
        expected = dataclasses.replace(
            header, features=FeatureSource(), encoder_fingerprint=frozen.fingerprint, encoder_dim=frozen.dim
        )
        changed = [f"{n} {v}, not {getattr(expected, n)}" for n, v in vars(mine).items() if v != getattr(expected, n)]
        if changed:
            older = mine.features.kind == "lifted" and mine.features.centred != expected.features.centred
            helps = f"`pasr library rebuild {path}` renders its views again" if older else "leave out lifted_from"
            raise LibraryError(f"{path}: cannot be lifted from: it has {', '.join(changed)}; {helps}")
        self._index = {entry.id: i for i, entry in enumerate(self._library.entries)}

    def of(self, source: MeshSource, samples: SurfaceSamples) -> SeenMesh | None:
        """A source's mesh at these samples; None where the library does not hold it.

        Raises ValueError if it was sampled elsewhere: its features are of other points.
        """
        if source.id not in self._index:
            return None
        data = self._library.data(self._index[source.id])
        points = data.points.numpy()
        if points.shape != samples.points.shape or np.abs(points - samples.points).max() > SAME_POINT:
            raise ValueError(
                f"{source.path}: expected the points at which {self._library.path} holds {source.id}, got others: the file, "
                "library.points or library.seed has changed; leave out lifted_from"
            )
        lifted, pooled = (with_room(t, self._room, 1) for t in (data.features.float(), data.view_pooled))
        return SeenMesh(lifted, data.weight, data.view_rotation, pooled)
