"""Groups meshes that look alike: surfaces that agree after the best rotation and scale.

A crop shows no size, so a chair and the same chair made larger cannot be told apart by one. Colour is not looked at.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml

from pasr_perception.data.split import Groups
from pasr_perception.evaluation.shape_classes import shape_classes
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.meshes import MeshError, load_mesh
from pasr_perception.library.sample import sample_surface

log = logging.getLogger(__name__)

SAMPLES = 2000  # per surface
AGREEMENT = 0.012  # root mean square distance of two surfaces whose root mean square radius is 1
SEED = 0


def unit_surface(points: np.ndarray) -> np.ndarray:
    """Surface points [N, 3] about their mean, at a root mean square radius of 1. Raises ValueError for a single spot."""
    centred = points - points.mean(0)
    radius = float(np.sqrt((centred**2).sum(1).mean()))
    if not radius > 0:
        raise ValueError("points: expected a surface, got a single spot")
    return centred / radius


def find_look_alikes(sources: Sequence[MeshSource], tell: Callable[[str, int, int], None] | None = None) -> Groups:
    """Groups of two ids or more that look alike, in the order of the sources; a mesh that cannot be read is left out."""
    surfaces = {}
    for done, source in enumerate(sources):
        if tell is not None:
            tell(source.id, done, len(sources))
        try:
            samples = sample_surface(load_mesh(source.path, source.unit), SAMPLES, SEED)
        except MeshError as error:
            log.warning("left out: %s", error)
            continue
        surfaces[source.id] = unit_surface(samples.points.astype(np.float64))
    members: dict[int, list[str]] = {}
    for mesh_id, number in shape_classes(surfaces, AGREEMENT).items():
        members.setdefault(number, []).append(mesh_id)
    return tuple(tuple(group) for group in members.values() if len(group) > 1)


def write_look_alikes(path: str | Path, groups: Groups) -> None:
    """Write what `split.read_look_alikes` reads."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    head = "# Meshes that agree after the best rotation and scale, made by `pasr data look-alikes`.\n"
    partial.write_text(head + yaml.safe_dump({"groups": [list(group) for group in groups]}, allow_unicode=True))
    os.replace(partial, path)
