"""The refine stage: the best candidates of every crop, each refined in the turned crop that it was found in, and valued anew.

Refinement brings few candidates forward by much, so those that are more than `refine.window` behind the best stay where they are.
Contours (`contour.py`) are looked at at the coarse poses of the candidates that are near, to choose whom to refine, and again where
those end up that are near then (`valuing.py`).

A search names a few poses of a mesh at most, so the right one of the winner's may be missing. So the winner's mesh is searched for
alone (`refine.again`), what that names besides is refined too, and the best is the winner. That is polished (`refine/polish.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch

from pasr_perception.coarse import quarter_turns
from pasr_perception.config import RefineConfig
from pasr_perception.contour import CropEdges
from pasr_perception.refine import (
    Boxes,
    Cells,
    Contest,
    Hypotheses,
    Pose,
    Refined,
    counting_shown,
    polish,
    refine,
    shown_similarity,
)
from pasr_perception.types import Candidates, Crop, Rivals
from pasr_perception.valuing import Ends, Heads, Scenery, Valuing, best_of_each

Told = TypeVar("Told")
Search = Callable[[list[int]], Sequence[Candidates]]  # what is found of one mesh in every crop, best first


def replaced_at(mine: Told, by: Told, at: torch.Tensor) -> Told:
    """The same with the rows [k] at an index of all its tensors from another, which has as many."""

    def one(a: Any, b: Any) -> Any:
        if isinstance(a, torch.Tensor):
            return a.index_copy(0, at.to(a.device), b)
        return replaced_at(a, b, at) if is_dataclass(a) else a

    known: Any = mine
    rows = {f.name: one(getattr(known, f.name), getattr(by, f.name)) for f in fields(known)}
    return cast(Told, replace(known, **rows))


@dataclass(frozen=True)
class Outcome:
    """Heads [H], and what refinement made of them."""

    heads: Heads
    start: Hypotheses  # in turned crops, rivals no more
    reached: Refined  # from there
    value: torch.Tensor  # [H]
    agreement: torch.Tensor  # [H] of colours

    @property
    def rendered(self) -> Pose:
        """Where splats fit, in the crops as they are."""
        return self.reached.pose.turned(quarter_turns(self.heads.turn))

    def chosen(self, index: torch.Tensor) -> Outcome:
        """Some of them."""
        heads, start, reached = self.heads.chosen(index), self.start.chosen(index), self.reached.chosen(index)
        return Outcome(heads, start, reached, self.value[index], self.agreement[index])


@dataclass(frozen=True)
class Refinement:
    """Refines candidates of a library's meshes."""

    valuing: Valuing

    def __call__(
        self,
        candidates: Sequence[Candidates],
        maps: torch.Tensor,
        crops: Sequence[Crop],
        config: RefineConfig,
        compared: bool = True,
        search: Search | None = None,
    ) -> list[Candidates]:
        """Refine each crop's first `top_k` candidates; maps, `compared` and `search` as `Pipeline.refine` has them."""
        if not config.enabled:
            return list(candidates)
        seen = CropEdges.of(crops) if config.contour_weight > 0 else None
        near = [self._near(c, config.window) for c in candidates]
        scenery = self._scenery([c.mesh_index[:n] for c, n in zip(candidates, near, strict=True)], crops, maps, seen)
        ordered, heads = self._heads(candidates, scenery, config)
        if not compared:
            heads = replace(heads, similarity=None)
        outcome = self._refined(heads, scenery, config, config.window if compared else 0)
        first = best_of_each(self._rivals.margin(outcome.value.cpu(), heads.mesh), heads.sizes).to(self.valuing.device)
        winners = outcome.chosen(first)
        if search is not None and config.searches_again:
            winners = self._again(winners, search(winners.heads.mesh.tolist()), heads, scenery, config)
        if config.polished:  # what orders hypotheses stays as it was: the others were not looked at as closely
            winners = self._polished(winners, scenery, config)
        return self._told(replaced_at(outcome, winners, first), ordered)

    def _heads(
        self, candidates: Sequence[Candidates], scenery: Scenery, config: RefineConfig
    ) -> tuple[Sequence[Candidates], Heads]:
        """Candidates in the order in which they are refined, and the first of them, which are."""
        near, device = [self._near(c, config.window) for c in candidates], self.valuing.device
        if scenery.edges is None:
            return candidates, Heads.of(candidates, [min(n, config.top_k) for n in near], device)
        heads = Heads.of(candidates, near, device)
        worth = config.contour_weight * self.valuing.of_contours(Pose.by_outline(heads.rotation), heads, scenery)
        ordered = self._by_contours(candidates, worth.split(heads.sizes))
        still = (self._near(c, config.window) for c in ordered)
        return ordered, Heads.of(ordered, [min(*n, config.top_k) for n in zip(still, near, strict=True)], device)

    def _scenery(
        self, meshes: Sequence[torch.Tensor], crops: Sequence[Crop], maps: torch.Tensor, seen: CropEdges | None
    ) -> Scenery:
        """What meshes [n] of each crop are looked for in; maps [B, T, D, g, g]."""
        known = torch.cat(list(meshes)).cpu().unique()
        clouds = self.valuing.space.clouds(known.tolist())
        cells = counting_shown(Cells.of(maps.flatten(0, 1), clouds), crops, maps.shape[1])
        return Scenery(crops, seen, Boxes.of(crops, self.valuing.device), known, clouds, cells, maps.shape[1])

    def _refined(self, heads: Heads, scenery: Scenery, config: RefineConfig, window: float) -> Outcome:
        """Heads refined and valued; a window as `Valuing` has it."""
        scene, start = self.valuing.scene, self._start(heads, scenery)
        reached = refine(start, scenery.clouds, scenery.cells, scene, config)
        rendered = reached.pose.turned(quarter_turns(heads.turn))

        def where_shown(some: torch.Tensor) -> torch.Tensor:
            return shown_similarity(reached.chosen(some), start.chosen(some), scenery.cells, scene)

        told = config.shown_share > 0 and any(crop.shown is not None for crop in scenery.crops)
        ends = Ends(rendered, self.valuing.of_points(rendered), reached.similarity, where_shown if told else None)
        value, agreement = self.valuing(heads, ends, scenery, config, window)
        return Outcome(heads, start.chosen(torch.arange(len(value), device=value.device)), reached, value, agreement)

    def _again(
        self, winners: Outcome, found: Sequence[Candidates], known: Heads, scenery: Scenery, config: RefineConfig
    ) -> Outcome:
        """One winner of every crop, each the best of those before and of what was found of its mesh besides what is known."""
        new = [self._unknown(c, known.of_crop(crop), config.window) for crop, c in enumerate(found)]
        _, heads = self._heads(new, scenery, replace(config, top_k=config.again))
        if not len(heads.crop):
            return winners
        heads = replace(heads, sizes=tuple(size for size in heads.sizes if size))
        others = self._refined(heads, scenery, config, config.window)
        best = best_of_each(others.value, heads.sizes)
        crops = heads.crop[best]
        better = others.value[best] > winners.value[crops]
        return replaced_at(winners, others.chosen(best[better]), crops[better])

    def _unknown(self, found: Candidates, known: torch.Tensor, window: float) -> Candidates:
        """Those of one mesh within a window of the best, without the rotations [n, 3, 3] that are known."""
        near = found.rotation[: self._near(found, window)]
        same = (near[:, None] == known).flatten(2).all(2).any(1)
        return found.chosen((~same).nonzero()[:, 0])

    def _polished(self, winners: Outcome, scenery: Scenery, config: RefineConfig) -> Outcome:
        """Winners at the best pose near the one that they reached."""
        more = None if scenery.edges is None else self.valuing.of_poses(winners.heads, scenery, config)
        reached = polish(winners.start, winners.reached, scenery.cells, self.valuing.scene, config.polish, more)
        return replace(winners, reached=reached)

    def _told(self, outcome: Outcome, candidates: Sequence[Candidates]) -> list[Candidates]:
        """Each crop's candidates as the outcome leaves the first of them."""
        pose, heads = self.valuing.of_points(outcome.rendered), outcome.heads
        displacement = torch.cat([pose.shift, pose.log_scale[:, None]], 1)
        found = heads.turn, pose.rotation, outcome.reached.similarity, outcome.value, outcome.agreement, displacement
        refined = zip(*(t.split(heads.sizes) for t in found), strict=True)
        return [c.with_refined(*each) for c, each in zip(candidates, refined, strict=True)]

    @property
    def _rivals(self) -> Rivals:
        return self.valuing.space.rivals

    def _near(self, candidates: Candidates, window: float) -> int:
        """How many of a crop's candidates are not farther behind the best than a window; 0 = all are taken for near."""
        count = len(candidates.mesh_index)
        if window == 0:
            return count
        margin = self._rivals.margin(candidates.value.cpu(), candidates.mesh_index.cpu())
        behind = (margin < margin[:1] - window).nonzero()
        return int(behind[0]) if len(behind) else count

    def _start(self, heads: Heads, scenery: Scenery) -> Hypotheses:
        """The heads in their turned crops; colours and contours count in their contest, as far as they are known before."""
        offset, spread = self._rivals.offset[heads.mesh].to(self.valuing.device), self.valuing.spread(heads)
        known = self.valuing.config.colour_weight * spread * heads.agreement + heads.contour
        return Hypotheses(
            quarter_turns(-heads.turn) @ heads.rotation,
            scenery.cloud(heads),
            heads.crop * scenery.turns + (heads.turn if scenery.turns > 1 else 0),
            scenery.boxes.chosen(heads.crop).turned(heads.turn),
            Contest(heads.sizes, offset - known, spread),
            heads.similarity,
        )

    def _by_contours(self, candidates: Sequence[Candidates], worth: Sequence[torch.Tensor]) -> list[Candidates]:
        """Each crop's first [n] ordered anew by what their contours are worth; the others' were not looked at: as on average."""
        ordered = []
        for c, mine in zip(candidates, worth, strict=True):
            first, spread = len(mine), self._rivals.spread[c.mesh_index.cpu()].to(mine.device)
            more = torch.cat([mine, (mine / spread[:first]).mean() * spread[first:]])
            value = c.value + more
            margin = self._rivals.margin(value[:first].cpu(), c.mesh_index[:first].cpu())
            order = torch.cat([margin.argsort(descending=True, stable=True), torch.arange(first, len(value))])
            ordered.append(replace(c, value=value, contour=more).chosen(order))
        return ordered
