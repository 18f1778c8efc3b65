"""Shortlist: the few meshes, and the few poses of each, that the coarse search looks at exactly (DESIGN 4.1).

One product of the crops' compressed maps with the bank scores every template of the library approximately. Per mesh only the best
score counts; the meshes that stand out most from how they answer strangers go on, each with a few of its poses, and besides
those of all their poses that stand out most: compression costs some meshes more than others, so none may be crowded out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pasr_perception.bank import Bank, CompressedCrops
from pasr_perception.coarse import MeshPoses
from pasr_perception.config import CoarseConfig
from pasr_perception.rank import MIN_SPREAD
from pasr_perception.templates import log_aspect

TEMPLATES_PER_BLOCK = 2**17  # bounds memory: a block of scores is this times the crops' turns, 4 bytes each


@dataclass(frozen=True)
class Run:
    """Neighbouring meshes of a bank with the same number of templates and the same turns."""

    meshes: slice
    rows: slice  # of the bank's templates
    poses: int
    turns: tuple[int, ...]


def runs(count: torch.Tensor, turns: Sequence[tuple[int, ...]]) -> list[Run]:
    """Cut a bank into runs of at most `TEMPLATES_PER_BLOCK` templates."""
    counts = count.tolist()
    found: list[Run] = []
    first = row = 0
    while first < len(counts):
        poses, last = counts[first], first
        while (
            last < len(counts)
            and (counts[last], turns[last]) == (poses, turns[first])
            and (last == first or (last - first + 1) * poses <= TEMPLATES_PER_BLOCK)
        ):
            last += 1
        rows = slice(row, row + poses * (last - first))
        found.append(Run(slice(first, last), rows, poses, turns[first]))
        first, row = last, rows.stop
    return found


class Shortlister:
    """A bank made ready for queries."""

    def __init__(
        self, bank: Bank, turns: Sequence[tuple[int, ...]], margin: torch.Tensor, config: CoarseConfig
    ) -> None:
        """`margin` [M] is what a mesh's approximate score has to beat besides its attraction."""
        self._bank, self._config = bank, config
        self._runs = runs(bank.count, turns)
        self._turns = tuple(turns)
        self._count = bank.count.tolist()
        self._start = (bank.count.cumsum(0) - bank.count).tolist()
        self._offset = (bank.attraction.cpu() + margin.cpu()).to(bank.attraction)
        self._spread = bank.spread.clamp(min=MIN_SPREAD)

    def __call__(self, maps: torch.Tensor, box_size: torch.Tensor, only: Sequence[int | None]) -> list[list[MeshPoses]]:
        """For every crop the meshes and poses worth an exact look; maps [B, T, D, g, g], box_size [B, 2]."""
        query = CompressedCrops.of(maps, self._bank.basis)
        aspect = log_aspect(box_size)
        wanted = [[] if mesh is None else [mesh] for mesh in only]
        free = [b for b, meshes in enumerate(wanted) if not meshes]
        if free:
            margin = (self._best(query, aspect, free) - self._offset) / self._spread  # [F, M]
            kept = margin.topk(min(self._config.shortlist_meshes, margin.shape[1]), dim=1).indices
            for b, meshes in zip(free, kept.tolist(), strict=True):
                wanted[b] = meshes
        return [self._poses(query, aspect, b, meshes) for b, meshes in enumerate(wanted)]

    def _values(self, query: CompressedCrops, aspect: torch.Tensor, crops: list[int], run: Run) -> torch.Tensor:
        """Approximate similarity less the outline's mismatch [F, T, rows] of some crops with a run's templates."""
        bank = self._bank
        values = query.crops(crops).turned(run.turns).similarity(bank.code[run.rows], bank.step[run.rows])
        if self._config.outline_weight:
            sign = torch.tensor([-1.0 if turn % 2 else 1.0 for turn in run.turns], device=aspect.device)
            turned = aspect[crops, None] * sign  # [F, T]
            values -= (turned[..., None] - bank.aspect[run.rows]).abs_().mul_(self._config.outline_weight)
        return values

    def _best(self, query: CompressedCrops, aspect: torch.Tensor, crops: list[int]) -> torch.Tensor:
        """Best value of every mesh [F, M]."""
        parts = []
        for run in self._runs:
            values = self._values(query, aspect, crops, run)
            parts.append(values.view(*values.shape[:2], -1, run.poses).amax((1, 3)))
        return torch.cat(parts, 1)

    def _poses(self, query: CompressedCrops, aspect: torch.Tensor, crop: int, meshes: list[int]) -> list[MeshPoses]:
        """The best poses of each of one crop's meshes, and of all their poses those that stand out most."""
        margins, chosen = [], []
        for mesh in meshes:
            poses, start = self._count[mesh], self._start[mesh]
            run = Run(slice(mesh, mesh + 1), slice(start, start + poses), poses, self._turns[mesh])
            values = self._values(query, aspect, [crop], run)[0].flatten()  # [T * P]
            margins.append((values - self._offset[mesh]) / self._spread[mesh])
            mine = torch.zeros_like(values, dtype=torch.bool)
            mine[values.topk(min(self._config.poses_each, len(values))).indices] = True
            chosen.append(mine)
        of_all = torch.cat(chosen)
        left = torch.cat(margins).masked_fill(of_all, -torch.inf)
        of_all[left.topk(min(self._config.poses_more, len(left))).indices] = True
        listed = []
        for mesh, mine in zip(meshes, of_all.split([len(m) for m in margins]), strict=True):
            index = mine.nonzero()[:, 0]
            turn = torch.tensor(self._turns[mesh], device=index.device)[index // self._count[mesh]]
            listed.append(MeshPoses(mesh, turn, index % self._count[mesh]))
        return listed
