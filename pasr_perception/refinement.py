"""The refine stage: the best candidates of every crop, each refined in the turned crop that it was found in, and valued anew.

Refinement brings few candidates forward by much, so those that are more than `refine.window` behind the best stay where they are.
Contours (`contour.py`) are looked at at the coarse poses of the candidates that are near, to choose whom to refine, and again where
those end up that are near then (`valuing.py`).

The winner of every crop is looked at closer: from its mesh's other sides (`sides.py`), if one of them is worth more, and then among
poses around it (`refine/polish.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
    look,
    polish,
    refine,
    shown_similarity,
)
from pasr_perception.sides import Sides
from pasr_perception.types import Candidates, Crop, Rivals
from pasr_perception.valuing import Ends, Heads, Scenery, Valuing, best_of_each

Told = TypeVar("Told")


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
    sides: Sides

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
        device = self.valuing.device
        seen = CropEdges.of(crops) if config.contour_weight > 0 else None
        near = [self._near(c, config.window) for c in candidates]
        heads = Heads.of(candidates, near if seen is not None else [min(n, config.top_k) for n in near], device)
        scenery = self._scenery(heads, crops, maps, seen)
        if seen is not None:
            worth = config.contour_weight * self.valuing.of_contours(Pose.by_outline(heads.rotation), heads, scenery)
            candidates = self._by_contours(candidates, worth.split(heads.sizes))
            still = (self._near(c, config.window) for c in candidates)
            heads = Heads.of(candidates, [min(*n, config.top_k) for n in zip(still, near, strict=True)], device)
        if not compared:
            heads = replace(heads, similarity=None)
        outcome = self._refined(heads, scenery, config, config.window if compared else 0)
        first = best_of_each(self._rivals.margin(outcome.value.cpu(), heads.mesh), heads.sizes).to(device)
        winners = outcome.chosen(first)
        if compared and config.turns_winners:  # else crops are not known in all their turns
            winners = self._from_best_sides(winners, scenery, config)
        if config.polished:  # what orders hypotheses stays as it was: the others were not looked at as closely
            winners = self._polished(winners, scenery, config)
        return self._told(replaced_at(outcome, winners, first), candidates)

    def _scenery(self, heads: Heads, crops: Sequence[Crop], maps: torch.Tensor, seen: CropEdges | None) -> Scenery:
        """What heads are looked for in; maps [B, T, D, g, g]."""
        meshes = heads.mesh.unique()
        clouds = self.valuing.space.clouds(meshes.tolist())
        cells = counting_shown(Cells.of(maps.flatten(0, 1), clouds), crops, maps.shape[1])
        return Scenery(crops, seen, Boxes.of(crops, self.valuing.device), meshes, clouds, cells, maps.shape[1])

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

    def _from_best_sides(self, winners: Outcome, scenery: Scenery, config: RefineConfig) -> Outcome:
        """One winner of every crop, each as its mesh is worth most: as found, or as refined from another side of it."""
        sides, of = self._near_sides(winners, scenery, config.sides)
        if not sides.sizes:
            return winners
        turned = self._refined(sides, scenery, config, config.window)
        best = best_of_each(turned.value, sides.sizes)
        crops = of[best]
        better = turned.value[best] > winners.value[crops]
        return replaced_at(winners, turned.chosen(best[better]), crops[better])

    def _near_sides(self, winners: Outcome, scenery: Scenery, window: float) -> tuple[Heads, torch.Tensor]:
        """Heads [S] at winners' other sides that are within a window by eq. 8 and aspect, and whose sides they are [S]."""
        found, valuing = winners.heads, self.valuing
        rotation, similarity = winners.rendered.rotation, winners.reached.similarity
        enough = valuing.by_features(similarity, rotation, found, scenery) - window * valuing.spread(found)
        heads, of = self._other_sides(found, rotation)
        most = valuing.by_features(similarity[of], heads.rotation, heads, scenery)  # that a side is worth if as similar
        possible = (most >= enough[of]).nonzero()[:, 0]
        heads, of = heads.chosen(possible), of[possible]
        if len(of):
            start = self._start(heads, scenery)
            seen = look(Pose.by_outline(start.rotation), start, scenery.cells, valuing.scene).similarity
            near = (valuing.by_features(seen, heads.rotation, heads, scenery) >= enough[of]).nonzero()[:, 0]
            heads, of = replace(heads.chosen(near), similarity=seen[near]), of[near]
        return replace(heads, sizes=tuple(of.unique_consecutive(return_counts=True)[1].tolist())), of

    def _other_sides(self, heads: Heads, rotation: torch.Tensor) -> tuple[Heads, torch.Tensor]:
        """Heads [S] of other sides of meshes that are at rotations [H, 3, 3] now, of which nothing is known; whose they are [S]."""
        meshes = heads.mesh.tolist()
        sides = [R @ self.sides.of(mesh).to(R) for mesh, R in zip(meshes, rotation, strict=True)]
        turn = torch.cat([self.sides.crop_turns(mesh, R) for mesh, R in zip(meshes, sides, strict=True)])
        of = torch.arange(len(sides)).repeat_interleave(torch.tensor([len(R) for R in sides])).to(turn.device)
        others, nothing = heads.chosen(of), torch.zeros(len(of), device=turn.device)
        others = replace(others, agreement=nothing, contour=nothing, similarity=None)
        return replace(others, turn=turn, rotation=torch.cat(sides)), of

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
