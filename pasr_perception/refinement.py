"""The refine stage: the best candidates of every crop, each refined in the turned crop that it was found in, and valued anew.

Refinement brings few candidates forward by much, so those that are more than `refine.window` behind the best stay where they are.

Contours are looked at here (`contour.py`): at the coarse poses of the candidates that are near, to choose whom to refine, and again
where they end up.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pasr_perception.chroma import crop_chroma, splats_agreement
from pasr_perception.coarse import quarter_turns, values
from pasr_perception.config import CoarseConfig, RefineConfig
from pasr_perception.contour import NEUTRAL, CropEdges, contour_agreement
from pasr_perception.library.resident import ResidentLibrary
from pasr_perception.refine import (
    Boxes,
    Cells,
    Clouds,
    Contest,
    Hypotheses,
    Pose,
    RenderScene,
    polish,
    refine,
    splat_margin,
)
from pasr_perception.refine.outline import outline
from pasr_perception.templates import log_aspect
from pasr_perception.types import Candidates, Crop


def best_of_each(values: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Indices of the largest value of each part of values, which are `sizes` long."""
    begin = itertools.accumulate(sizes[:-1], initial=0)
    return torch.stack([first + part.argmax() for first, part in zip(begin, values.split(list(sizes)), strict=True)])


@dataclass(frozen=True)
class Heads:
    """Candidates of all crops that are looked at together, H in all."""

    sizes: tuple[int, ...]  # how many of each crop
    crop: torch.Tensor  # [H] int64
    turn: torch.Tensor  # [H] int64, quarter turns of the crop
    mesh: torch.Tensor  # [H] int64, on the CPU
    rotation: torch.Tensor  # [H, 3, 3] in the crop as it is
    similarity: torch.Tensor  # [H] of the candidates
    agreement: torch.Tensor  # [H] of colours
    contour: torch.Tensor  # [H] what contours add to the value

    @classmethod
    def of(cls, candidates: Sequence[Candidates], sizes: Sequence[int], device: torch.device) -> Heads:
        """The first so many of each crop's."""
        first = list(zip(candidates, sizes, strict=True))
        meshes = [c.mesh_index[:n] for c, n in first]
        crop = torch.arange(len(candidates)).repeat_interleave(torch.tensor(sizes)).to(device)
        names = ("turn", "rotation", "similarity")
        turn, rotation, similarity = (torch.cat([getattr(c, name)[:n] for c, n in first]) for name in names)

        def known(said: Sequence[torch.Tensor | None]) -> torch.Tensor:
            both = zip(said, first, strict=True)
            return torch.cat([(torch.zeros_like(c.value) if each is None else each)[:n] for each, (c, n) in both])

        agreement, contour = known([c.agreement for c in candidates]), known([c.contour for c in candidates])
        return cls(tuple(sizes), crop, turn, torch.cat(meshes).cpu(), rotation, similarity, agreement, contour)


@dataclass(frozen=True)
class Refinement:
    """Refines candidates of a library's meshes."""

    space: ResidentLibrary
    scene: RenderScene
    config: CoarseConfig  # whose weights order poses
    grid: int
    device: torch.device

    def __call__(
        self,
        candidates: Sequence[Candidates],
        maps: torch.Tensor,
        crops: Sequence[Crop],
        config: RefineConfig,
        compared: bool = True,
    ) -> list[Candidates]:
        """Refine each crop's first `top_k` candidates; maps and `compared` as `Pipeline.refine` has them."""
        if not config.enabled:
            return list(candidates)
        seen = CropEdges.of(crops) if config.contour_weight > 0 else None
        near = [self._near(c, config.window) for c in candidates]
        heads = Heads.of(candidates, near if seen is not None else [min(n, config.top_k) for n in near], self.device)
        meshes = heads.mesh.unique()
        clouds = self.space.clouds(meshes.tolist())
        if seen is not None:
            cloud = torch.searchsorted(meshes, heads.mesh).to(self.device)
            said = self._of_contours(Pose.by_outline(heads.rotation), cloud, clouds, heads, seen)
            candidates = self._by_contours(candidates, (config.contour_weight * said).split(heads.sizes))
            still = (self._near(c, config.window) for c in candidates)
            heads = Heads.of(candidates, [min(*n, config.top_k) for n in zip(still, near, strict=True)], self.device)
        boxes, cells = Boxes.of(crops, self.device), Cells.of(maps.flatten(0, 1), clouds)
        cloud = torch.searchsorted(meshes, heads.mesh).to(self.device)
        start = self._start(heads, cloud, boxes, maps.shape[1])
        if not compared:
            start = replace(start, similarity=None)
        result = refine(start, clouds, cells, self.scene, config)
        back = quarter_turns(heads.turn)
        shift = (back[:, :2, :2] @ result.shift[..., None])[..., 0]
        pose = Pose(back @ result.rotation, shift, result.log_scale)
        mismatch = self._mismatch(pose.rotation, clouds.outer.index_select(0, start.cloud), boxes.chosen(heads.crop))
        agreement = self._agreement(pose, start.cloud, clouds, heads.crop, crops)
        spread = self.space.rivals.spread[heads.mesh].to(self.device)
        value = values(result.similarity, mismatch, agreement, spread, self.config)
        scaled = result.log_scale + splat_margin(self.scene) * (result.log_scale != 0)
        if seen is not None:
            shown = Pose(pose.rotation, shift, scaled)
            value += config.contour_weight * self._of_contours(shown, start.cloud, clouds, heads, seen)
        if config.polished:  # what orders hypotheses stays as it was: the others were not looked at as closely
            first = best_of_each(self.space.rivals.margin(value.cpu(), heads.mesh), heads.sizes).to(self.device)
            fine = polish(start.chosen(first), result.chosen(first), clouds, cells, self.scene, config.polish)
            result = result.replaced(fine, first)
        displacement = torch.cat([shift, scaled[:, None]], 1)
        found = back @ result.rotation, result.similarity, value, agreement, displacement
        refined = zip(*(t.split(heads.sizes) for t in found), strict=True)
        return [c.with_refined(*each) for c, each in zip(candidates, refined, strict=True)]

    def _near(self, candidates: Candidates, window: float) -> int:
        """How many of a crop's candidates are not farther behind the best than a window; 0 = all are taken for near."""
        count = len(candidates.mesh_index)
        if window == 0:
            return count
        margin = self.space.rivals.margin(candidates.value.cpu(), candidates.mesh_index.cpu())
        behind = (margin < margin[:1] - window).nonzero()
        return int(behind[0]) if len(behind) else count

    def _start(self, heads: Heads, cloud: torch.Tensor, boxes: Boxes, turns: int) -> Hypotheses:
        """The heads in their turned crops; colours and contours count in their contest, as far as they are known before."""
        rivals = self.space.rivals
        offset, spread = (t[heads.mesh].to(self.device) for t in (rivals.offset, rivals.spread))
        known = self.config.colour_weight * spread * heads.agreement + heads.contour
        return Hypotheses(
            quarter_turns(-heads.turn) @ heads.rotation,
            cloud,
            heads.crop * turns + (heads.turn if turns > 1 else 0),
            boxes.chosen(heads.crop).turned(heads.turn),
            Contest(heads.sizes, offset - known, spread),
            heads.similarity,
        )

    def _of_contours(
        self, pose: Pose, cloud: torch.Tensor, clouds: Clouds, heads: Heads, seen: CropEdges
    ) -> torch.Tensor:
        """What contours at poses [H] in the crops as they are say for or against them, in their meshes' spreads."""
        agreement = contour_agreement(pose, cloud, clouds, seen, heads.crop, self.scene)
        return self.space.rivals.spread[heads.mesh].to(self.device) * (agreement - NEUTRAL)

    def _by_contours(self, candidates: Sequence[Candidates], worth: Sequence[torch.Tensor]) -> list[Candidates]:
        """Each crop's first [n] ordered anew by what their contours are worth; the others' were not looked at: as on average."""
        ordered = []
        for c, mine in zip(candidates, worth, strict=True):
            first, spread = len(mine), self.space.rivals.spread[c.mesh_index.cpu()].to(mine.device)
            more = torch.cat([mine, (mine / spread[:first]).mean() * spread[first:]])
            value = c.value + more
            margin = self.space.rivals.margin(value[:first].cpu(), c.mesh_index[:first].cpu())
            order = torch.cat([margin.argsort(descending=True, stable=True), torch.arange(first, len(value))])
            ordered.append(replace(c, value=value, contour=more).chosen(order))
        return ordered

    def _mismatch(self, rotation: torch.Tensor, outer: torch.Tensor, boxes: Boxes) -> torch.Tensor:
        """How much outlines [H] differ in aspect from their boxes; outer [H, K, 3]."""
        edges = outline(outer, rotation, self.scene.view).edges
        log_aspects = (log_aspect(e[:, 2:] - e[:, :2]) for e in (edges, boxes.edges))
        return torch.sub(*log_aspects).abs()

    def _agreement(
        self, pose: Pose, cloud: torch.Tensor, clouds: Clouds, crop: torch.Tensor, crops: Sequence[Crop]
    ) -> torch.Tensor:
        """Of colours [H] at poses in the crops as they are; 0 where they are not compared."""
        if self.config.colour_weight == 0 or clouds.chroma is None:
            return pose.log_scale.new_zeros(len(cloud))
        chroma = crop_chroma(crops, self.grid)[:, 0].to(self.device)
        return splats_agreement(pose, cloud, clouds, chroma, crop, self.scene)
