"""Settling: what distances say of which mesh it is, and the other way round. Own; PASR looks at one crop, which has no distance.

A mesh's size and its box say how far off an object is. Where a depth map or the surface that the photo's other objects stand on
(`support.py`) says otherwise, it is probably not this mesh. The evidence is a log-likelihood, `confidence.slope` of which is one
spread of margin, so it counts as much as it should beside what features, colours and contours say.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pasr_perception.confidence import probabilities
from pasr_perception.config import PasrConfig
from pasr_perception.depth import excess, usable_depth
from pasr_perception.lift import LiftError
from pasr_perception.placing import Placing
from pasr_perception.support import Standing, evidence_of, found_there, supported
from pasr_perception.types import Camera, Candidates, Crop, Depth, Frame

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placed:
    """One candidate before the camera."""

    crop: int  # its number among the crops
    candidate: int  # among the crop's
    mesh: int
    T_cam_obj: np.ndarray  # [4, 4]
    margin: float


@dataclass(frozen=True)
class Settled:
    """What is said of H placed candidates."""

    evidence: np.ndarray  # [H] for their distances rather than those of wrong meshes, log-likelihood
    distance: np.ndarray  # [H, 2] of `Candidates`


@dataclass(frozen=True)
class Settling:
    """Called with all refined candidates of one photo."""

    placing: Placing
    config: PasrConfig

    def __call__(self, refined: Sequence[Candidates], crops: Sequence[Crop], frame: Frame) -> list[Candidates]:
        """The same, with values and distances that take account of the frame's depth, or of what its objects stand on."""
        depth = usable_depth(frame, self.config.depth)[0] if self.config.depth.tells_size else None
        together = self.config.support.enabled and len(crops) >= self.config.support.least
        if depth is None and not together:
            return list(refined)
        placed = self._placed(refined, crops, frame.camera)
        settled = self._by_others(placed) if depth is None else self._by_depth(placed, depth, frame.camera)
        return list(refined) if settled is None else self._told(refined, placed, settled)

    def _placed(self, refined: Sequence[Candidates], crops: Sequence[Crop], camera: Camera) -> list[Placed]:
        placed = []
        for k, (found, crop) in enumerate(zip(refined, crops, strict=True)):
            margins = self.placing.space.rivals.margin(found.value.cpu(), found.mesh_index.cpu()).tolist()
            shift = found.rotation.new_zeros(len(margins), 3) if found.displacement is None else found.displacement
            for i, (mesh, margin) in enumerate(zip(found.mesh_index.tolist(), margins, strict=True)):
                try:
                    T = self.placing.place(mesh, found.rotation[i], shift[i], crop, camera)
                except LiftError:
                    continue  # `Placing.hypotheses` says so
                placed.append(Placed(k, i, mesh, T, margin))
        return placed

    def _by_others(self, placed: Sequence[Placed]) -> Settled | None:
        """None where too few can be placed, or no three of them span a plane."""
        named, of = np.unique([p.crop for p in placed], return_inverse=True)
        if len(named) < self.config.support.least:
            return None
        outlines = [_moved(self.placing.outer_points(p.mesh), p.T_cam_obj) for p in placed]
        longest = max(map(len, outlines))
        outline = np.stack([np.resize(points, (longest, 3)) for points in outlines])
        centers = [np.asarray(self.placing.library.entries[p.mesh].center) for p in placed]
        middle = np.stack([_moved(c[None], p.T_cam_obj)[0] for c, p in zip(centers, placed, strict=True)])
        crops = (of_crop for _, of_crop in itertools.groupby(placed, lambda p: p.crop))
        shares = [probabilities([p.margin for p in of_crop], self.config.confidence)[0] for of_crop in crops]
        support = supported(Standing(outline, middle, np.concatenate(shares), of, len(named)), self.config.support)
        if support is None:
            logger.debug("no three of %d objects span a plane: their distances are those of their boxes", len(named))
            return None
        logger.debug("%d objects stand on one surface to %.1f %%", len(named), 100 * float(np.median(support.noise)))
        return Settled(support.evidence, np.stack([support.distance, support.noise], 1))

    def _by_depth(self, placed: Sequence[Placed], depth: Depth, camera: Camera) -> Settled:
        """Distances stay: `Placing.by_depth` moves what is told of in the end."""
        off = []
        for p in placed:
            surface = self.placing.surface(p.mesh)
            off.append(excess(surface, p.T_cam_obj, depth, camera, self.config.depth))
        said = np.array([np.nan if each is None else each for each in off], np.float64)
        evidence = evidence_of(found_there(said, self.config.support.contact**2, self.config.support))
        return Settled(np.nan_to_num(evidence, nan=0.0), np.tile([1.0, np.inf], (len(placed), 1)))

    def _told(self, refined: Sequence[Candidates], placed: Sequence[Placed], settled: Settled) -> list[Candidates]:
        spread = self.placing.space.rivals.spread
        values = [c.value.cpu().double().numpy() for c in refined]
        distances = [np.tile([1.0, np.inf], (len(v), 1)) for v in values]
        for p, evidence, distance in zip(placed, settled.evidence, settled.distance, strict=True):
            values[p.crop][p.candidate] += evidence / self.config.confidence.slope * float(spread[p.mesh])
            distances[p.crop][p.candidate] = distance
        return [
            replace(c, value=c.value.new_tensor(v), distance=c.value.new_tensor(d))
            for c, v, d in zip(refined, values, distances, strict=True)
        ]


def _moved(points: np.ndarray, T: np.ndarray) -> np.ndarray:
    return points @ T[:3, :3].T + T[:3, 3]
