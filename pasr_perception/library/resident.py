"""What of a library is held on the searching device: the meshes that were looked at last, within a bound.

A mesh costs points * ((D + 64) * h + 20) bytes for its cloud, whose 64 leading channels are held once more: h is 2 on the CPU,
whose loops read the halves that a library stores, and 4 on a GPU. That is 3 or 6 MB with 320 channels and 4096 points. A GPU also
holds 12 bytes for each covered cell of its templates and 8 for every (cell, point) pair, another 12 MB with 2000 poses: on the
CPU these are views of the library's file, which processes share and which is read again when memory is short, so there they do
not count.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from pasr_perception.chroma import chroma_of
from pasr_perception.geometry.viewpoints import QUARTER_TURNS
from pasr_perception.library.store import MeshLibrary
from pasr_perception.rank import Attraction
from pasr_perception.refine import Clouds, outer_points
from pasr_perception.templates import SparseCloud
from pasr_perception.types import Rivals

logger = logging.getLogger(__name__)


def attraction(library: MeshLibrary) -> Attraction:
    """How the library's meshes answer strangers, from its entries."""
    entries = library.entries
    return Attraction(
        torch.tensor([e.offset_mean for e in entries]),
        torch.tensor([e.offset_std for e in entries]),
        torch.tensor([e.appearance == "known" for e in entries]),
    )


@dataclass(frozen=True)
class ResidentMesh:
    """One mesh on the searching device."""

    points: torch.Tensor  # [N, 3] float32
    sparse: SparseCloud  # as the search reads it
    rough: SparseCloud  # the same with the leading channels only; all where none are known

    @cached_property
    def outer(self) -> torch.Tensor:
        """The points [K, 3] that may form its outline."""
        return self.points[outer_points(self.points)]

    @property
    def chroma(self) -> torch.Tensor:
        """Of its points [N, 2]; 0 where unknown."""
        return self.points.new_zeros(len(self.points), 2) if self.sparse.chroma is None else self.sparse.chroma

    @cached_property
    def surface(self) -> np.ndarray:
        """The points [N, 3] as lifting reads them, float64."""
        return self.points.cpu().double().numpy()

    @cached_property
    def outline_points(self) -> np.ndarray:
        """Those of the surface [K, 3] that may form its outline."""
        return self.outer.cpu().double().numpy()

    @property
    def bytes(self) -> int:
        own = 0 if self.rough is self.sparse else self.rough.features.nbytes
        return self.points.nbytes + self.sparse.bytes + own


def _stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """`torch.stack` that copies nothing where there is one: a mesh's features are megabytes."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tuple(tensors))


class ResidentLibrary:
    """A library's meshes on a device, loaded when first asked for; the longest unused go when `limit_bytes` is reached."""

    def __init__(
        self,
        library: MeshLibrary,
        rivals: Rivals,
        device: torch.device,
        limit_bytes: int,
        channels: torch.Tensor | None = None,
    ) -> None:
        """`channels` [D, R] are the leading ones of the library (`bank.Basis`)."""
        self.rivals = rivals
        self._channels = None if channels is None else channels.to(device)
        self.turns = tuple(QUARTER_TURNS[entry.pose_set] for entry in library.entries)
        self._library, self._device, self._limit = library, device, limit_bytes
        self._held: OrderedDict[int, ResidentMesh] = OrderedDict()
        self._whole: set[int] = set()  # of them, those whose files were looked at since the last check
        self._said = False  # that colours are missing
        self.bytes = 0

    def mesh(self, index: int) -> ResidentMesh:
        """One mesh; raises LibraryError if its file can no longer be read, or was cut short (see `check`)."""
        held = self._held.get(index)
        if held is not None:
            if index not in self._whole:
                self._library.check_whole([index])
                self._whole.add(index)
            self._held.move_to_end(index)
            return held
        data = self._library.data(index)
        chroma = None if data.colours is None else torch.from_numpy(chroma_of(data.colours.numpy())).to(self._device)
        if chroma is None and self._library.entries[index].appearance == "known" and not self._said:
            self._said = True
            logger.warning(
                "library %s keeps no colours of mesh %s, nor maybe of others (an older version built it): they are not compared; "
                "build it again, or from its views with `pasr library relearn`",
                self._library.path,
                self._library.entries[index].id,
            )
        features = data.features.to(self._device)
        # the CPU's loops read halves as they are: half of the memory to wait for
        features = features.clone() if self._device.type == "cpu" else features.float()
        sparse = SparseCloud.of(features, self._library.templates(index).to(self._device), chroma)
        rough = (
            sparse
            if self._channels is None
            else replace(sparse, features=(features.float() @ self._channels).to(features.dtype))
        )
        loaded = ResidentMesh(data.points.to(self._device), sparse, rough)
        self._held[index] = loaded
        self.bytes += loaded.bytes
        while self.bytes > self._limit and len(self._held) > 1:
            self.bytes -= self._held.popitem(last=False)[1].bytes
        return loaded

    def check(self) -> None:
        """Before a frame: have the files that it uses looked at again, those that all meshes share now, a mesh's own in `mesh`.

        Raises LibraryError if one was cut short: reading a mapped page that is gone would end the process.
        """
        self._whole.clear()
        self._library.check_whole(())

    def sparse(self, mesh: int) -> SparseCloud:
        return self.mesh(mesh).sparse

    def rough(self, mesh: int) -> SparseCloud:
        """A mesh with the leading channels of its features only; with all where none are known."""
        return self.mesh(mesh).rough

    def clouds(self, meshes: Sequence[int]) -> Clouds:
        """The point clouds of some meshes, in their order."""
        found = [self.mesh(i) for i in meshes]
        return Clouds(
            _stacked([m.points for m in found]),
            [m.sparse.features for m in found],
            _stacked([m.outer for m in found]),
            self._channels,
            None if all(m.sparse.chroma is None for m in found) else _stacked([m.chroma for m in found]),
            [m.rough.features for m in found],
        )
