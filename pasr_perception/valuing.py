"""What candidates are worth where refinement left them: eq. 8, where cells show the object, aspects, colours and contours.

Contours (`contour.py`), colours (`chroma.py`), and how similar poses are where the crop shows the object (`refine/shown.py`) are
looked at for those that are near the best of their crop; the others keep what was said before.
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
from pasr_perception.refine import Boxes, Cells, Clouds, Contest, Pose, RenderScene, Worth, splat_margin
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
    similarity: torch.Tensor | None  # [H] eq. 8 at these rotations, where it is known
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

    def of_crop(self, crop: int) -> torch.Tensor:
        """The rotations [n, 3, 3] of one crop's."""
        return self.rotation.split(self.sizes)[crop]

    def chosen(self, index: torch.Tensor) -> Heads:
        """Some of them, of crops no more."""
        there = index.cpu()
        similarity = None if self.similarity is None else self.similarity[index]
        first = self.crop[index], self.turn[index], self.mesh[there], self.rotation[index], similarity
        return Heads((), *first, self.agreement[index], self.contour[index])


@dataclass(frozen=True)
class Scenery:
    """Crops, and the clouds that are looked for in them."""

    crops: Sequence[Crop]
    edges: CropEdges | None  # of the crops; None where contours are not compared
    boxes: Boxes  # of the crops
    meshes: torch.Tensor  # [C] int64, ascending
    clouds: Clouds  # of these
    cells: Cells  # of the crops in all their turns, one crop after another
    turns: int  # of each

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
class Valuing:
    """Called with heads and where they ended."""

    space: ResidentLibrary
    scene: RenderScene
    config: CoarseConfig  # whose weights order poses
    grid: int
    device: torch.device

    def __call__(
        self, heads: Heads, ends: Ends, scenery: Scenery, config: RefineConfig, window: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What heads are worth [H] where they ended, and how well colours agree there [H].

        Those that are within a window of the best of their crop, 0 = all, are looked at there, `AGAIN` at most; the others keep
        the agreement and contours that they began with.
        """
        agreement, contour = heads.agreement, heads.contour
        mismatch, spread = self.mismatch(ends.rendered.rotation, heads, scenery), self.spread(heads)
        value = values(ends.similarity, mismatch, agreement, spread, self.config) + contour
        best = self._best(value, heads, window)
        among = heads.chosen(best)
        agreement = agreement.index_copy(0, best, self.agreement(ends.rendered.chosen(best), among, scenery))
        if scenery.edges is not None:
            worth = config.contour_weight * self.of_contours(ends.pose.chosen(best), among, scenery)
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
        contest = Contest(heads.sizes, self.space.rivals.offset[heads.mesh].to(self.device), self.spread(heads))
        margin, first = contest.margin(value), contest.finalists(value, AGAIN)
        best = margin[best_of_each(margin, heads.sizes)]  # of each crop
        least = best.repeat_interleave(torch.tensor(heads.sizes, device=self.device)) - window
        return first[margin[first] >= least[first]]

    def of_points(self, rendered: Pose) -> Pose:
        """Where the points are of a rendering, which has the margin of its splats where it was scaled."""
        margin = splat_margin(self.scene) * (rendered.log_scale != 0)
        return replace(rendered, log_scale=rendered.log_scale + margin)

    def spread(self, heads: Heads) -> torch.Tensor:
        """Of strangers to each one's mesh [H]."""
        return self.space.rivals.spread[heads.mesh].to(self.device)

    def mismatch(self, rotation: torch.Tensor, heads: Heads, scenery: Scenery) -> torch.Tensor:
        """How much outlines [H] differ in aspect from their boxes."""
        outer = scenery.clouds.outer.index_select(0, scenery.cloud(heads))  # [H, K, 3]
        edges = outline(outer, rotation, self.scene.view).edges
        log_aspects = (log_aspect(e[:, 2:] - e[:, :2]) for e in (edges, scenery.boxes.chosen(heads.crop).edges))
        return torch.sub(*log_aspects).abs()

    def agreement(self, pose: Pose, heads: Heads, scenery: Scenery) -> torch.Tensor:
        """Of colours [H] at poses in the crops as they are; 0 where they are not compared."""
        if self.config.colour_weight == 0 or scenery.clouds.chroma is None:
            return pose.log_scale.new_zeros(len(heads.crop))
        chroma = crop_chroma(scenery.crops, self.grid)[:, 0].to(self.device)
        return splats_agreement(pose, scenery.cloud(heads), scenery.clouds, chroma, heads.crop, self.scene)

    def of_contours(self, pose: Pose, heads: Heads, scenery: Scenery) -> torch.Tensor:
        """What contours at poses [H] in the crops as they are say for or against them, in their meshes' spreads."""
        assert scenery.edges is not None
        agreed = contour_agreement(pose, scenery.cloud(heads), scenery.clouds, scenery.edges, heads.crop, self.scene)
        return self.spread(heads) * (agreed - NEUTRAL)

    def of_poses(self, heads: Heads, scenery: Scenery, config: RefineConfig) -> Worth:
        """What contours add to eq. 8 at poses of heads in turned crops."""
        back = quarter_turns(heads.turn)

        def worth(pose: Pose, of: torch.Tensor) -> torch.Tensor:
            there = self.of_points(pose.turned(back[of]))
            return config.contour_weight * self.of_contours(there, heads.chosen(of), scenery)

        return worth
