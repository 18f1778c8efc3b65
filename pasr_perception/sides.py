"""The other sides of a mesh: what its poses become by turns about its own axes that leave its box much as it is. Own.

What is nearly symmetric is easily found back to front: where the features of two sides differ little, the pose that the search
compares best may be of the wrong one. From there refinement does not come back, it moves by a few degrees. A thing that stands
upright is turned by quarters about its axis, one that may lie anyhow by half turns about all three. A side that the mesh's symmetry
makes equal to another shows nothing new and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from pasr_perception.geometry.symmetry_group import Symmetry, closest_symmetric_rotation_error, turn
from pasr_perception.geometry.viewpoints import nearest_turns, up_rotation
from pasr_perception.library.format import MeshEntry

ALIKE = math.radians(20.0)  # up to which a side is another one, by the mesh's symmetry: refinement gets there by itself


def turns_about(pose_set: str, up: str) -> np.ndarray:
    """The turns [4, 3, 3] of an object, the identity first: by quarters about `up`, or by halves about each of its axes."""
    if pose_set == "upright":
        return np.stack([turn(up_rotation(up)[1], quarters * math.pi / 2).round() for quarters in range(4)])
    return np.stack([np.eye(3), *(turn(axis, math.pi).round() for axis in np.eye(3))])


def other_sides(turns: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """Those of turns [n, 3, 3], the identity first, that look neither as it does nor as one before: [m, 3, 3], m < n."""
    known = [turns[0]]
    for R in turns[1:]:
        if min(closest_symmetric_rotation_error(each, R, symmetry) for each in known) > ALIKE:
            known.append(R)
    return np.stack(known)[1:]


class Sides:
    """Those of a library's meshes, found when first asked for."""

    def __init__(self, entries: Sequence[MeshEntry]) -> None:
        self._entries = entries
        self._known: dict[int, torch.Tensor] = {}

    def of(self, mesh: int) -> torch.Tensor:
        """The turns [m, 3, 3] float32 of one mesh, by its index: its pose R becomes R @ turn."""
        if mesh not in self._known:
            entry = self._entries[mesh]
            found = other_sides(turns_about(entry.pose_set, entry.up), entry.symmetry)
            self._known[mesh] = torch.as_tensor(found, dtype=torch.float32)
        return self._known[mesh]

    def crop_turns(self, mesh: int, R_crop_obj: torch.Tensor) -> torch.Tensor:
        """The quarter turns [n] of the crop that poses [n, 3, 3] of one mesh are looked at in."""
        entry = self._entries[mesh]
        turns = nearest_turns(R_crop_obj.cpu().double().numpy(), entry.pose_set, entry.up)
        return torch.from_numpy(turns).to(R_crop_obj.device)
