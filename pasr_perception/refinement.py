"""The refine stage: the best candidates of every crop, each refined in the turned crop that it was found in, and valued anew."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pasr_perception.chroma import crop_chroma, splats_agreement
from pasr_perception.coarse import quarter_turns, values
from pasr_perception.config import CoarseConfig, RefineConfig
from pasr_perception.library.resident import ResidentLibrary
from pasr_perception.refine import (
    Boxes,
    Clouds,
    Contest,
    Hypotheses,
    Pose,
    RenderScene,
    outline_size,
    polish,
    refine,
    splat_margin,
)
from pasr_perception.templates import outline_mismatch
from pasr_perception.types import Candidates, Crop


def best_of_each(values: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Indices of the largest value of each part of values, which are `sizes` long."""
    begin = itertools.accumulate(sizes[:-1], initial=0)
    return torch.stack([first + part.argmax() for first, part in zip(begin, values.split(list(sizes)), strict=True)])


@dataclass(frozen=True)
class Heads:
    """The candidates of all crops that are refined, H in all."""

    sizes: tuple[int, ...]  # how many of each crop
    crop: torch.Tensor  # [H] int64
    turn: torch.Tensor  # [H] int64, quarter turns of the crop
    mesh: torch.Tensor  # [H] int64, on the CPU
    rotation: torch.Tensor  # [H, 3, 3] in the crop as it is
    agreement: torch.Tensor  # [H] of colours

    @classmethod
    def of(cls, candidates: Sequence[Candidates], top_k: int, device: torch.device) -> Heads:
        """The first `top_k` of each crop."""
        sizes = tuple(min(top_k, len(c.mesh_index)) for c in candidates)
        crop = torch.arange(len(candidates)).repeat_interleave(torch.tensor(sizes)).to(device)
        first = [(c, slice(n)) for c, n in zip(candidates, sizes, strict=True)]
        turn, rotation = (torch.cat([getattr(c, name)[n] for c, n in first]) for name in ("turn", "rotation"))
        mesh = torch.cat([c.mesh_index[n] for c, n in first]).cpu()
        unknown = rotation.new_zeros(len(mesh))
        agreements = [unknown[: n.stop] if c.agreement is None else c.agreement[n] for c, n in first]
        return cls(sizes, crop, turn, mesh, rotation, torch.cat(agreements))


@dataclass(frozen=True)
class Refinement:
    """Refines candidates of a library's meshes."""

    space: ResidentLibrary
    scene: RenderScene
    config: CoarseConfig  # whose weights order poses
    grid: int
    device: torch.device

    def __call__(
        self, candidates: Sequence[Candidates], maps: torch.Tensor, crops: Sequence[Crop], config: RefineConfig
    ) -> list[Candidates]:
        """Refine each crop's first `top_k` candidates; maps as `Pipeline.refine` has them."""
        if not config.enabled:
            return list(candidates)
        heads, boxes, flat = (
            Heads.of(candidates, config.top_k, self.device),
            Boxes.of(crops, self.device),
            maps.flatten(0, 1),
        )
        meshes, cloud = torch.unique(heads.mesh, return_inverse=True)
        clouds = self.space.clouds(meshes.tolist())
        start = self._start(heads, cloud.to(self.device), boxes, maps.shape[1])
        result = refine(start, clouds, flat, self.scene, config)
        back = quarter_turns(heads.turn)
        shift = (back[:, :2, :2] @ result.shift[..., None])[..., 0]
        pose = Pose(back @ result.rotation, shift, result.log_scale)
        mismatch = self._mismatch(pose.rotation, clouds.outer_of(start.cloud), boxes.chosen(heads.crop))
        agreement = self._agreement(pose, start.cloud, clouds, heads.crop, crops)
        spread = self.space.rivals.spread[heads.mesh].to(self.device)
        value = values(result.similarity, mismatch, agreement, spread, self.config)
        if config.polished:  # what orders hypotheses stays as it was: the others were not looked at as closely
            first = best_of_each(self.space.rivals.margin(value.cpu(), heads.mesh), heads.sizes).to(self.device)
            fine = polish(start.chosen(first), result.chosen(first), clouds, flat, self.scene, config.polish)
            result = result.replaced(fine, first)
        scaled = result.log_scale + splat_margin(self.scene) * (result.log_scale != 0)
        displacement = torch.cat([shift, scaled[:, None]], 1)
        found = back @ result.rotation, result.similarity, value, agreement, displacement
        refined = zip(*(t.split(heads.sizes) for t in found), strict=True)
        return [c.with_refined(*each) for c, each in zip(candidates, refined, strict=True)]

    def _start(self, heads: Heads, cloud: torch.Tensor, boxes: Boxes, turns: int) -> Hypotheses:
        """The heads in their turned crops; colours that agree count in their contest, as far as they are known before."""
        rivals = self.space.rivals
        offset, spread = (t[heads.mesh].to(self.device) for t in (rivals.offset, rivals.spread))
        return Hypotheses(
            quarter_turns(-heads.turn) @ heads.rotation,
            cloud,
            heads.crop * turns + (heads.turn if turns > 1 else 0),
            boxes.chosen(heads.crop).turned(heads.turn),
            Contest(heads.crop, offset - self.config.colour_weight * spread * heads.agreement, spread),
        )

    def _mismatch(self, rotation: torch.Tensor, outer: torch.Tensor, boxes: Boxes) -> torch.Tensor:
        """How much outlines [H] differ in aspect from their boxes; outer [H, K, 3]."""
        outline = outline_size(outer, rotation, self.scene.view)
        return outline_mismatch(outline, boxes.edges[:, 2:] - boxes.edges[:, :2]).diagonal()

    def _agreement(
        self, pose: Pose, cloud: torch.Tensor, clouds: Clouds, crop: torch.Tensor, crops: Sequence[Crop]
    ) -> torch.Tensor:
        """Of colours [H] at poses in the crops as they are; 0 where they are not compared."""
        if self.config.colour_weight == 0 or clouds.chroma is None:
            return pose.log_scale.new_zeros(len(cloud))
        chroma = crop_chroma(crops, self.grid)[:, 0].to(self.device)
        return splats_agreement(pose, cloud, clouds, chroma, crop, self.scene)
