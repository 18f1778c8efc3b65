"""Shortlist: the few meshes, and the few poses of each, that the coarse search looks at exactly (DESIGN 4.1).

From coarse to fine over the bank (`bank.py`). Every mesh is judged by a few of its templates that cover its poses evenly; the
meshes that stand out most from how they answer strangers are judged by more of them, and what remains by all: `LOOKS`. Each
level has its own measure of what standing out is. The last meshes go on, each with a few of its poses, and besides those of
all their poses that stand out most: compression costs some meshes more than others, so none may be crowded out. Poses farther
behind than `coarse.window` stay behind, but for the best one of each mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pasr_perception.bank import LOOKS, Bank, BankRows, CompressedCrops, Look
from pasr_perception.coarse import MeshPoses
from pasr_perception.config import CoarseConfig
from pasr_perception.rank import MIN_SPREAD
from pasr_perception.templates import log_aspect, turned_aspect

TEMPLATES_PER_BLOCK = 2**17  # bounds memory: a block of scores is this times the crops' turns, 4 bytes each


@dataclass(frozen=True)
class Run:
    """Neighbouring meshes with the same number of rows and the same turns."""

    rows: slice  # of all meshes' rows
    poses: int  # rows of each
    turns: tuple[int, ...]


def runs(count: Sequence[int], turns: Sequence[tuple[int, ...]]) -> list[Run]:
    """Cut meshes of so many rows into runs of at most `TEMPLATES_PER_BLOCK` rows."""
    found: list[Run] = []
    first = row = 0
    while first < len(count):
        poses, last = count[first], first
        while (
            last < len(count)
            and (count[last], turns[last]) == (poses, turns[first])
            and (last == first or (last - first + 1) * poses <= TEMPLATES_PER_BLOCK)
        ):
            last += 1
        rows = slice(row, row + poses * (last - first))
        found.append(Run(rows, poses, turns[first]))
        first, row = last, rows.stop
    return found


@dataclass(frozen=True)
class Query:
    """Compressed crops and their boxes."""

    crops: CompressedCrops
    aspect: torch.Tensor  # [B] of the boxes, natural logarithm

    def one(self, crop: int) -> Query:
        return Query(self.crops.crops([crop]), self.aspect[crop : crop + 1])


class Shortlister:
    """A bank made ready for queries."""

    def __init__(
        self, bank: Bank, turns: Sequence[tuple[int, ...]], margin: torch.Tensor, config: CoarseConfig
    ) -> None:
        """`margin` [M] is what a mesh's approximate score has to beat besides its attraction."""
        self._bank, self._config = bank, config
        count = bank.count.tolist()
        self._pose = bank.pose.cpu().numpy()
        self._start = (bank.count.cumsum(0) - bank.count).cpu().numpy()
        self._offset = (bank.attraction + margin.to(bank.attraction)[:, None]).T.contiguous()  # [L, M]
        self._spread = bank.spread.clamp(min=MIN_SPREAD).T.contiguous()
        self._first_runs = runs([min(LOOKS[0].templates, n) for n in count], turns)
        kinds = list(zip(count, turns, strict=True))
        self._kinds = sorted(set(kinds))  # meshes of one kind are looked at together
        number = {kind: k for k, kind in enumerate(self._kinds)}
        self._kind = np.array([number[kind] for kind in kinds])  # [M]

    def __call__(self, maps: torch.Tensor, box_size: torch.Tensor, only: Sequence[int | None]) -> list[list[MeshPoses]]:
        """For every crop the meshes and poses worth an exact look; maps [B, T, D, g, g], box_size [B, 2]."""
        query = Query(CompressedCrops.of(maps, self._bank.basis), log_aspect(box_size))
        free = [b for b, mesh in enumerate(only) if mesh is None]
        wanted = {b: np.array([mesh]) for b, mesh in enumerate(only) if mesh is not None}
        wanted |= dict(zip(free, self._survivors(query, free), strict=True))
        return [self._poses(query.one(b), wanted[b]) for b in range(len(only))]

    def _survivors(self, query: Query, crops: Sequence[int]) -> list[np.ndarray]:
        """The meshes, ascending, that the levels before the last leave of each of some crops."""
        meshes, config = len(self._kind), self._config
        left = [np.arange(meshes) for _ in crops]
        if crops and meshes > config.first_meshes:
            best = self._first_best(Query(query.crops.crops(crops), query.aspect[list(crops)]))
            margin = self._margin(best, 0, np.arange(meshes))
            # neighbours in the file are read together
            left = list(margin.topk(config.first_meshes, dim=1).indices.sort(dim=1).values.cpu().numpy())
        for i, (b, kept) in enumerate(zip(crops, left, strict=True)):
            if len(kept) > config.second_meshes:
                margin = self._margin(self._values(query.one(b), kept, LOOKS[1]).amax(1), 1, kept)
                left[i] = np.sort(kept[margin.topk(config.second_meshes).indices.cpu().numpy()])
        return left

    def _margin(self, value: torch.Tensor, level: int, meshes: np.ndarray) -> torch.Tensor:
        """How many spreads of a level values [..., S] of meshes [S] lie above what strangers reach."""
        index = torch.from_numpy(meshes).to(value.device)
        return (value - self._offset[level].index_select(0, index)) / self._spread[level].index_select(0, index)

    def _first_best(self, query: Query) -> torch.Tensor:
        """Best value [B, M] of every mesh on the first level."""
        parts = []
        for run in self._first_runs:
            index = torch.arange(run.rows.start, run.rows.stop, device=query.aspect.device)
            values = self._compared(query, self._bank.first, index, LOOKS[0].numbers, run.turns)  # [B, T, n]
            parts.append(values.unflatten(2, (-1, run.poses)).amax((1, 3)))
        return torch.cat(parts, 1)

    def _values(self, query: Query, meshes: np.ndarray, look: Look) -> torch.Tensor:
        """Values [S, W] of some meshes for one crop, turn by turn of the templates that are looked at; beyond them -inf."""
        of, tables = self._kind[meshes], []
        kinds = np.unique(of).tolist()
        for kind in kinds:
            count, turns = self._kinds[kind]
            n, start = min(look.templates, count), torch.from_numpy(self._start[meshes[of == kind]])
            index = (start[:, None] + torch.arange(n)).flatten().to(query.aspect.device)
            values = self._compared(query, self._bank.rows, index, look.numbers, turns)[0].unflatten(1, (-1, n))
            tables.append(values.transpose(0, 1).flatten(1))  # [S, T * n]
        if len(kinds) == 1:
            return tables[0]
        table = query.aspect.new_full((len(meshes), max(t.shape[1] for t in tables)), -torch.inf)
        for kind, values in zip(kinds, tables, strict=True):
            table[torch.from_numpy(np.flatnonzero(of == kind)).to(table.device), : values.shape[1]] = values
        return table

    def _compared(
        self, query: Query, rows: BankRows, index: torch.Tensor, numbers: int, turns: tuple[int, ...]
    ) -> torch.Tensor:
        """Approximate similarity less the outline's mismatch [B, T, n] of crops in some turns with rows `index` [n]."""
        turned = turned_aspect(query.aspect[:, None], torch.tensor(turns, device=index.device))  # [B, T]
        return query.crops.turned(turns).values(rows, index, numbers, turned, self._config.outline_weight)

    def _poses(self, query: Query, meshes: np.ndarray) -> list[MeshPoses]:
        """The last meshes of one crop, the best poses of each, and of all their poses those that stand out most."""
        config = self._config
        longest = max(count for count, _ in self._kinds)
        values = self._values(query, meshes, Look(longest, self._bank.basis.rank))  # [S, W]
        margin = self._margin(values.T, -1, meshes).T
        kept = margin.amax(1).topk(min(config.shortlist_meshes, len(meshes))).indices.sort().values
        values, margin = values[kept], margin[kept]
        chosen = torch.zeros_like(values, dtype=torch.bool)
        chosen.scatter_(1, values.topk(min(config.poses_each, values.shape[1]), dim=1).indices, True)
        more = margin.masked_fill(chosen, -torch.inf).flatten()
        chosen.view(-1)[more.topk(min(config.poses_more, len(more))).indices] = True
        least = margin.amax() - config.window if config.window else -torch.inf
        chosen &= (values > -torch.inf) & (margin >= least)
        chosen.scatter_(1, values.argmax(1, keepdim=True), True)
        place, column = (found.numpy() for found in chosen.cpu().nonzero(as_tuple=True))
        ends = np.searchsorted(place, np.arange(len(kept) + 1))
        listed = []
        for mesh, begin, end in zip(meshes[kept.cpu().numpy()].tolist(), ends[:-1], ends[1:], strict=True):
            count, turns = self._kinds[self._kind[mesh]]
            turn, row = np.divmod(column[begin:end], count)
            pose = self._pose[self._start[mesh] + row].astype(np.int64)
            listed.append(MeshPoses(mesh, np.array(turns)[turn], pose))
        return listed
