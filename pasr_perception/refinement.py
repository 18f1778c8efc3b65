"""The refine stage: the best candidates of every crop, each refined in the turned crop that it was found in, and valued anew.

Refinement brings few candidates forward by much, so those that are more than `refine.window` behind the best stay where they are.

Contours are looked at here (`contour.py`): at the coarse poses of the candidates that are near, to choose whom to refine, and again
where those end up that are near then. These are asked, too, how similar they are where the crop shows the object
(`refine/shown.py`). The others keep what was said before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
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
    Worth,
    counting_shown,
    polish,
    refine,
    shown_similarity,
    splat_margin,
)
from pasr_perception.refine.outline import outline
from pasr_perception.templates import log_aspect
from pasr_perception.types import Candidates, Crop

AGAIN = 16  # refined candidates of a crop at most whose contours and colours are looked at again


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

    def chosen(self, index: torch.Tensor) -> Heads:
        """Some of them, of crops no more."""
        there = index.cpu()
        rest = (t[index] for t in (self.rotation, self.similarity, self.agreement, self.contour))
        return Heads((), self.crop[index], self.turn[index], self.mesh[there], *rest)


@dataclass(frozen=True)
class Scenery:
    """Crops, and the clouds that are looked for in them."""

    crops: Sequence[Crop]
    edges: CropEdges | None  # of the crops; None where contours are not compared
    boxes: Boxes  # of the crops
    meshes: torch.Tensor  # [C] int64, ascending
    clouds: Clouds  # of these

    def cloud(self, heads: Heads) -> torch.Tensor:
        """Which of the clouds each is of: [H] int64."""
        return torch.searchsorted(self.meshes, heads.mesh).to(heads.crop.device)


@dataclass(frozen=True)
class Ends:
    """Where refinement left heads, in the crops as they are."""

    rendered: Pose  # where splats fit
    pose: Pose  # where the points are: of a rendering that was scaled, without the margin of its splats
    similarity: torch.Tensor  # [H]
    where_shown: Callable[[torch.Tensor], torch.Tensor] | None  # of some [k], over cells that show their objects


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
        scenery = Scenery(crops, seen, Boxes.of(crops, self.device), meshes, self.space.clouds(meshes.tolist()))
        if seen is not None:
            worth = config.contour_weight * self._of_contours(Pose.by_outline(heads.rotation), heads, scenery)
            candidates = self._by_contours(candidates, worth.split(heads.sizes))
            still = (self._near(c, config.window) for c in candidates)
            heads = Heads.of(candidates, [min(*n, config.top_k) for n in zip(still, near, strict=True)], self.device)
        cells = counting_shown(Cells.of(maps.flatten(0, 1), scenery.clouds), crops, maps.shape[1])
        start = self._start(heads, scenery, maps.shape[1])
        if not compared:
            start = replace(start, similarity=None)
        reached = result = refine(start, scenery.clouds, cells, self.scene, config)
        back = quarter_turns(heads.turn)
        rendered = reached.pose.turned(back)

        def where_shown(some: torch.Tensor) -> torch.Tensor:
            return shown_similarity(reached.chosen(some), start.chosen(some), cells, self.scene)

        told = config.shown_share > 0 and any(crop.shown is not None for crop in crops)
        ends = Ends(rendered, self._of_points(rendered), reached.similarity, where_shown if told else None)
        value, agreement = self._valued(heads, ends, scenery, config, config.window if compared else 0)
        if config.polished:  # what orders hypotheses stays as it was: the others were not looked at as closely
            first = best_of_each(self.space.rivals.margin(value.cpu(), heads.mesh), heads.sizes).to(self.device)
            more = None if seen is None else self._worth(heads.chosen(first), back[first], scenery, config)
            winners = start.chosen(first), reached.chosen(first)
            result = reached.replaced(polish(*winners, cells, self.scene, config.polish, more), first)
        pose = self._of_points(result.pose.turned(back))
        displacement = torch.cat([pose.shift, pose.log_scale[:, None]], 1)
        found = pose.rotation, result.similarity, value, agreement, displacement
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

    def _spread(self, heads: Heads) -> torch.Tensor:
        """Of strangers to each one's mesh [H]."""
        return self.space.rivals.spread[heads.mesh].to(self.device)

    def _start(self, heads: Heads, scenery: Scenery, turns: int) -> Hypotheses:
        """The heads in their turned crops; colours and contours count in their contest, as far as they are known before."""
        offset, spread = self.space.rivals.offset[heads.mesh].to(self.device), self._spread(heads)
        known = self.config.colour_weight * spread * heads.agreement + heads.contour
        return Hypotheses(
            quarter_turns(-heads.turn) @ heads.rotation,
            scenery.cloud(heads),
            heads.crop * turns + (heads.turn if turns > 1 else 0),
            scenery.boxes.chosen(heads.crop).turned(heads.turn),
            Contest(heads.sizes, offset - known, spread),
            heads.similarity,
        )

    def _valued(
        self, heads: Heads, ends: Ends, scenery: Scenery, config: RefineConfig, window: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What heads are worth [H] where they ended, and how well colours agree there [H].

        Those that are within a window of the best of their crop, 0 = all, are looked at there, `AGAIN` at most; the others keep
        the agreement and contours that they began with.
        """
        agreement, contour = heads.agreement, heads.contour
        mismatch, spread = self._mismatch(ends.rendered.rotation, heads, scenery), self._spread(heads)
        value = values(ends.similarity, mismatch, agreement, spread, self.config) + contour
        best = self._best(value, heads, window)
        among = heads.chosen(best)
        agreement = agreement.index_copy(0, best, self._agreement(ends.rendered.chosen(best), among, scenery))
        if scenery.edges is not None:
            worth = config.contour_weight * self._of_contours(ends.pose.chosen(best), among, scenery)
            contour = contour.index_copy(0, best, worth)
        value = values(ends.similarity, mismatch, agreement, spread, self.config) + contour
        if ends.where_shown is not None:
            more = ends.where_shown(best) - ends.similarity[best]
            value = value.index_add(0, best, config.shown_share * more)
        return value, agreement

    def _best(self, value: torch.Tensor, heads: Heads, window: float) -> torch.Tensor:
        """Indices of those, by value [H], that are within a window of the best of their crop, `AGAIN` at most; 0 = all."""
        if window == 0:
            return torch.arange(len(value), device=self.device)
        contest = Contest(heads.sizes, self.space.rivals.offset[heads.mesh].to(self.device), self._spread(heads))
        margin, first = contest.margin(value), contest.finalists(value, AGAIN)
        best = margin[best_of_each(margin, heads.sizes)]  # of each crop
        return first[margin[first] >= best[heads.crop[first]] - window]

    def _of_points(self, rendered: Pose) -> Pose:
        """Where the points are of a rendering, which has the margin of its splats where it was scaled."""
        margin = splat_margin(self.scene) * (rendered.log_scale != 0)
        return replace(rendered, log_scale=rendered.log_scale + margin)

    def _worth(self, heads: Heads, back: torch.Tensor, scenery: Scenery, config: RefineConfig) -> Worth:
        """What contours add to eq. 8 at poses of heads in turned crops, which turns [H, 3, 3] lead back from."""

        def worth(pose: Pose, of: torch.Tensor) -> torch.Tensor:
            there = self._of_points(pose.turned(back[of]))
            return config.contour_weight * self._of_contours(there, heads.chosen(of), scenery)

        return worth

    def _of_contours(self, pose: Pose, heads: Heads, scenery: Scenery) -> torch.Tensor:
        """What contours at poses [H] in the crops as they are say for or against them, in their meshes' spreads."""
        assert scenery.edges is not None
        agreed = contour_agreement(pose, scenery.cloud(heads), scenery.clouds, scenery.edges, heads.crop, self.scene)
        return self._spread(heads) * (agreed - NEUTRAL)

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

    def _mismatch(self, rotation: torch.Tensor, heads: Heads, scenery: Scenery) -> torch.Tensor:
        """How much outlines [H] differ in aspect from their boxes."""
        outer = scenery.clouds.outer.index_select(0, scenery.cloud(heads))  # [H, K, 3]
        edges = outline(outer, rotation, self.scene.view).edges
        log_aspects = (log_aspect(e[:, 2:] - e[:, :2]) for e in (edges, scenery.boxes.chosen(heads.crop).edges))
        return torch.sub(*log_aspects).abs()

    def _agreement(self, pose: Pose, heads: Heads, scenery: Scenery) -> torch.Tensor:
        """Of colours [H] at poses in the crops as they are; 0 where they are not compared."""
        if self.config.colour_weight == 0 or scenery.clouds.chroma is None:
            return pose.log_scale.new_zeros(len(heads.crop))
        chroma = crop_chroma(scenery.crops, self.grid)[:, 0].to(self.device)
        return splats_agreement(pose, scenery.cloud(heads), scenery.clouds, chroma, heads.crop, self.scene)
