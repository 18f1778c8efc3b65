"""Templates: the exact score of any (mesh, pose) without rendering a feature map at query time (PASR 3.3, eq. 8).

The score of a pose is the mean, over the pixels it covers, of the cosine between the image's feature and the splatted one:

    s = 1/|fg| sum_p F_p . (sum_j w_pj M_j) / |sum_j w_pj M_j|  =  sum_{p,j} (w_pj / (|fg| |sum_j w_pj M_j|)) (F_p . M_j)

The bracket does not depend on the query, so it is computed once per library and nothing is approximated. All poses of a mesh
cost one matrix product G = F M^T and a sparse weighted sum over G (`score_templates`); a few poses cost less without it
(`score_poses`): on the CPU one loop over their pairs, elsewhere a sparse weighted sum over M, which gives their feature maps.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch

from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.kernels.compiled import as_numbers
from pasr_perception.kernels.poses import Chosen, SparseWeights, scores
from pasr_perception.kernels.splat import MIN_WEIGHT_SUM
from pasr_perception.render.splat import SplatConfig, composite, rasterise

POSES_PER_BLOCK = 64  # bounds memory while templates are built


@dataclass(frozen=True)
class PixelRuns:
    """Where a mesh's pairs go from one covered pixel to the next: its poses' pixels, R in all."""

    cell: torch.Tensor  # [R] int64, row * g + column
    start: torch.Tensor  # [R] int32, the first pair of each
    begin: tuple[int, ...]  # [P + 1], the first run of each pose
    pair: tuple[int, ...]  # [P + 1], the first pair of each pose


@dataclass(frozen=True)
class Templates:
    """The query-independent part of eq. 8 for one mesh: for every pose its sparse weights over (pixel, point) pairs."""

    rotation: torch.Tensor  # [P, 3, 3] float32, R_crop_obj
    start: torch.Tensor  # [P] int32, where each pose's pairs begin
    pair: torch.Tensor  # [E] int32, pixel * N + point
    weight: torch.Tensor  # [E] float32, so that a pose's score is the sum of weight * G[pixel, point]
    outline: torch.Tensor  # [P, 2] float32, width and height of the projected bounds in crop sizes

    def to_tensors(self) -> dict[str, torch.Tensor]:
        return {f"templates.{f.name}": getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> Templates:
        return cls(**{name: tensors[f"templates.{name}"] for name in cls.__dataclass_fields__})

    def to(self, device: torch.device) -> Templates:
        return Templates(*(getattr(self, f.name).to(device) for f in fields(self)))

    @property
    def bytes(self) -> int:
        return sum(getattr(self, f.name).nbytes for f in fields(self))

    @property
    def length(self) -> torch.Tensor:
        """[P] int64, how many pairs each pose has."""
        return torch.diff(self.start, append=self.start.new_tensor([len(self.pair)])).long()

    def poses(self, first: int, last: int) -> Templates:
        """Those of the poses first to last - 1, as views."""
        begin = int(self.start[first])
        end = int(self.start[last]) if last < len(self.start) else len(self.pair)
        part = slice(first, last)
        pairs = slice(begin, end)
        return Templates(
            self.rotation[part], self.start[part] - begin, self.pair[pairs], self.weight[pairs], self.outline[part]
        )


@dataclass(frozen=True)
class SparseCloud:
    """One mesh as the search reads it."""

    features: torch.Tensor  # [N, D] float32, on the CPU float16 as a library keeps them
    templates: Templates
    runs: PixelRuns | None  # none on the CPU, whose loop over pairs needs none
    chroma: torch.Tensor | None = None  # [N, 2] float32, a* and b*, where the mesh's colours are known

    @classmethod
    def of(cls, features: torch.Tensor, templates: Templates, chroma: torch.Tensor | None = None) -> SparseCloud:
        on_cpu = features.device.type == "cpu"
        return cls(features, templates, None if on_cpu else pixel_runs(templates, len(features)), chroma)

    @cached_property
    def weights(self) -> SparseWeights:
        """As the CPU's loop reads it."""
        return self._weights(as_numbers(self.features))

    @cached_property
    def coloured(self) -> SparseWeights:
        """The same with colours for features; for a mesh that has any."""
        assert self.chroma is not None
        return self._weights(self.chroma.contiguous().numpy())

    def _weights(self, features: np.ndarray) -> SparseWeights:
        templates = self.templates
        bound = np.append(templates.start.numpy(), len(templates.pair)).astype(np.int64)
        pair, weight = (t.contiguous().numpy() for t in (templates.pair, templates.weight))
        return SparseWeights(features, pair, weight, bound)

    @property
    def bytes(self) -> int:
        """What it takes in memory; on the CPU templates are views of a mapped file, whose pages are the file's."""
        own = self.features.nbytes + (0 if self.chroma is None else self.chroma.nbytes)
        if self.runs is None:
            return own
        return own + self.runs.cell.nbytes + self.runs.start.nbytes + self.templates.bytes


def pixel_runs(templates: Templates, points: int) -> PixelRuns:
    """The pairs of templates over so many points, pixel by pixel, for looking at a few poses (`score_poses`)."""
    cell = templates.pair // points
    new = torch.ones_like(cell, dtype=torch.bool)
    new[1:] = cell[1:] != cell[:-1]
    new[templates.start.long()] = True
    start = new.nonzero()[:, 0]
    ends = torch.cat([templates.start, templates.start.new_tensor([len(templates.pair)])])
    begin = torch.searchsorted(start, ends.long())
    return PixelRuns(cell[start].long(), start.int(), tuple(begin.tolist()), tuple(ends.tolist()))


def build_templates(
    points: torch.Tensor, features: torch.Tensor, rotation: torch.Tensor, view: ViewSpec, splat: SplatConfig
) -> Templates:
    """Rasterise points [N, 3] at every rotation [P, 3, 3] and keep weights normalised by the splatted features [N, D]."""
    pairs, weights, counts, outlines = [], [], [], []
    cells = splat.size * splat.size
    for block in rotation.split(POSES_PER_BLOCK):
        rotated = points @ block.transpose(1, 2)  # [B, N, 3]
        uv, depth = project(rotated, place(rotated, view), splat.size)
        fragments = rasterise(uv, depth, splat)
        norm = _raw_norm(fragments.weight, composite(fragments, features))  # [M]
        pose = fragments.pixel // cells
        area = torch.bincount(pose, minlength=len(block)).clamp(min=1)
        taken = fragments.index >= 0  # [M, K]
        scaled = fragments.weight / (norm * area[pose])[:, None]
        pairs.append(
            torch.masked_select((fragments.pixel % cells)[:, None] * len(points) + fragments.index, taken).int()
        )
        weights.append(torch.masked_select(scaled, taken))
        counts.append(torch.zeros(len(block), dtype=torch.long, device=pose.device).index_add_(0, pose, taken.sum(1)))
        outlines.append((uv.amax(1) - uv.amin(1)) / splat.size)
    count = torch.cat(counts)
    start = (torch.cumsum(count, 0) - count).int()
    return Templates(rotation.float(), start, torch.cat(pairs), torch.cat(weights).float(), torch.cat(outlines).float())


def _raw_norm(weight: torch.Tensor, mean_feature: torch.Tensor) -> torch.Tensor:
    """|sum_j w_j M_j| [M] from the weighted mean that the compositor returns."""
    return (mean_feature.norm(dim=-1) * weight.sum(-1).clamp(min=MIN_WEIGHT_SUM)).clamp(min=1e-6)


def score_templates(maps: torch.Tensor, features: torch.Tensor, templates: Templates) -> torch.Tensor:
    """Eq. 8 of every crop and pose: maps [B, D, g, g], features [N, D] -> masked mean cosine [B, P]."""
    flat = maps.flatten(2).transpose(1, 2)  # [B, g*g, D]
    scores = []
    for products in flat @ features.T:  # [g*g, N] per crop
        scores.append(
            torch.nn.functional.embedding_bag(
                templates.pair,
                products.reshape(-1, 1),
                templates.start,
                mode="sum",
                per_sample_weights=templates.weight,
            )[:, 0]
        )
    return torch.stack(scores)


def score_many(maps: torch.Tensor, features: torch.Tensor, templates: Templates) -> torch.Tensor:
    """`score_templates` for more crops than templates are worth keeping as maps for: renders them block by block, [B, P]."""
    crops = maps.flatten(2).transpose(1, 2).flatten(1)  # [B, g*g*D]
    grid, poses = maps.shape[-1], len(templates.rotation)
    scores = []
    for first in range(0, poses, POSES_PER_BLOCK):
        block = templates.poses(first, min(first + POSES_PER_BLOCK, poses))
        scores.append(crops @ pool_templates(block, features, grid, grid).flatten(1).T)
    return torch.cat(scores, 1)


def pool_templates(templates: Templates, features: torch.Tensor, grid: int, blocks: int) -> torch.Tensor:
    """Sums over blocks of a mesh's unit template maps over their areas [P, b*b, C]; features [N, C], any linear image of them.

    The inner product with a crop's map averaged over the same blocks is eq. 8 of that averaged map; as many blocks as cells
    are the maps themselves.
    """
    poses, points, device = len(templates.rotation), len(features), features.device
    pixel = templates.pair.long() // points
    side = torch.arange(grid, device=device) * blocks // grid
    block = side[pixel // grid] * blocks + side[pixel % grid]
    row = torch.repeat_interleave(torch.arange(poses, device=device), templates.length) * blocks**2 + block
    index = torch.stack([row, templates.pair.long() % points])
    cells = torch.sparse_coo_tensor(index, templates.weight, (poses * blocks**2, points), check_invariants=False)
    return torch.sparse.mm(cells, features).view(poses, blocks**2, -1)


@dataclass(frozen=True)
class ChosenPoses:
    """Poses of one mesh that are to be compared with one crop."""

    cells: torch.Tensor  # [T, g*g, D] of the crop in its turns
    cloud: SparseCloud
    turn: np.ndarray  # [k] int64
    pose: np.ndarray  # [k] int64

    def in_loops(self, mesh: SparseWeights) -> Chosen:
        """As the CPU's loop reads them, of a mesh with features that go with the cells."""
        return Chosen(self.cells.contiguous().numpy(), mesh, self.turn, self.pose)


def score_poses(each: Sequence[ChosenPoses]) -> list[torch.Tensor]:
    """Eq. 8 [k] of chosen poses of several, by the CPU's loop or by rendering."""
    if any(c.cloud.runs is not None for c in each):
        return [score_rendered(c) for c in each]
    return [torch.from_numpy(found) for found in scores([c.in_loops(c.cloud.weights) for c in each])]


def score_rendered(chosen: ChosenPoses) -> torch.Tensor:
    """`score_poses` of one by the poses' feature maps, on any device."""
    runs = chosen_runs(chosen, chosen.cloud.features)
    seen = chosen.cells.flatten(0, 1).index_select(0, runs.cell)  # [R, D]
    score = runs.shown.new_zeros(len(chosen.pose))
    return score.index_add_(0, runs.pose, runs.shown.mul_(seen).sum(1))


@dataclass(frozen=True)
class ChosenRuns:
    """The covered pixels of chosen poses, R in all."""

    shown: torch.Tensor  # [R, C] sums of what the points have, by the templates' weights
    pose: torch.Tensor  # [R] int64, which of the chosen
    cell: torch.Tensor  # [R] int64 into all cells of all turns


def chosen_runs(chosen: ChosenPoses, of_points: torch.Tensor) -> ChosenRuns:
    """What poses show of what every point has [N, C]."""
    templates, runs = chosen.cloud.templates, chosen.cloud.runs
    assert runs is not None
    turn, pose, cells = chosen.turn.tolist(), chosen.pose.tolist(), chosen.cells.shape[1]
    pixels = [slice(runs.begin[p], runs.begin[p + 1]) for p in pose]
    pairs = [slice(runs.pair[p], runs.pair[p + 1]) for p in pose]
    length = [s.stop - s.start for s in pairs]
    moved = [end - s.stop for end, s in zip(itertools.accumulate(length), pairs, strict=True)]
    of_pose = np.array([np.arange(len(pose)), np.multiply(turn, cells), moved])
    of_pixel = np.repeat(of_pose, [s.stop - s.start for s in pixels], axis=1)
    which, first_cell, shift = torch.from_numpy(of_pixel).to(of_points.device)  # [R] each
    shown = torch.nn.functional.embedding_bag(
        torch.cat([templates.pair[s] for s in pairs]) % len(of_points),
        of_points,
        torch.cat([runs.start[s] for s in pixels]) + shift.int(),
        mode="sum",
        per_sample_weights=torch.cat([templates.weight[s] for s in pairs]),
    )
    return ChosenRuns(shown, which, first_cell + torch.cat([runs.cell[s] for s in pixels]))


def log_aspect(size: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of width over height [n] of sizes [n, 2]."""
    log = size.clamp(min=1e-3).log()
    return log[:, 0] - log[:, 1]


def turned_aspect(aspect: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Log aspects of boxes in crops turned by quarters; aspect and turn of shapes that go together."""
    return torch.where(turn % 2 == 1, -aspect, aspect)


def outline_mismatch(outline: torch.Tensor, box_size: torch.Tensor) -> torch.Tensor:
    """How much each pose's outline [P, 2] differs in aspect from each crop's box [B, 2]: |log ratio| of aspects [B, P]."""
    return (log_aspect(box_size)[:, None] - log_aspect(outline)).abs()
