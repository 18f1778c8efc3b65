"""The bank: all templates of a library, compressed so far that one matrix product compares a crop with every one of them.

Eq. 8 of a pose is an inner product of the crop's feature map with the template's unit feature map, divided by its area. Both
are averaged over blocks of cells, and what is left is projected onto the leading principal directions of the library's own
templates (first over channels, then over the whole pooled map) and quantised to int8. What remains is half a kB per pose:
enough to say which meshes and poses are worth an exact look, not to rank them.

Not all of it need be looked at. A few of a mesh's templates, spread evenly over its poses, and the first numbers of each, which
carry most, say roughly how well the mesh fits at all: `LOOKS`, a hierarchy of viewpoints, each level part of the next. The
first level lies together in the bank, so that looking at every mesh of a large library reads a fortieth of it. So do the numbers
that the second reads: of rows read in half, a processor fetches more than half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch

from pasr_perception.config import BankConfig
from pasr_perception.geometry.viewpoints import quarter_turn
from pasr_perception.kernels.compiled import as_numbers
from pasr_perception.kernels.products import Coded, values
from pasr_perception.kernels.projection import product
from pasr_perception.templates import Templates, log_aspect, pool_templates

SAMPLE_ROWS = 6000  # pooled templates that the directions are fitted on
SUBSPACE_ROUNDS = 3  # of the randomised decomposition; directions beyond the first dozen need no more
INT8_MAX = 127.0
MOVED_AT_A_TIME = 2**26  # bytes of a mapped file that go to another device together


class Look(NamedTuple):
    """One level of the hierarchy."""

    templates: int  # of each mesh
    numbers: int  # of each template


LOOKS = (Look(48, 128), Look(192, 256))  # before that of everything


@dataclass(frozen=True)
class Basis:
    """The projection that templates and crops share."""

    channels: torch.Tensor  # [D, R] orthonormal
    directions: torch.Tensor  # [b*b*R, r] orthonormal
    blocks: int  # b: cells of a pooled map's side

    @property
    def rank(self) -> int:
        return self.directions.shape[1]

    def project(self, pooled: torch.Tensor) -> torch.Tensor:
        """Pooled maps [..., b*b, D] of a few crops -> [..., r]."""
        flat = (pooled @ self.channels).flatten(-2)
        if flat.device.type != "cpu":
            return flat @ self.directions
        found = product(flat.view(-1, flat.shape[-1]).numpy(), self._halves)
        return torch.from_numpy(found).view(*flat.shape[:-1], -1)

    @cached_property
    def _halves(self) -> np.ndarray:
        """The directions in half precision, which is more than what is compared with them has."""
        return as_numbers(self.directions.half())


@dataclass(frozen=True)
class BankRows:
    """Compressed templates."""

    leading: torch.Tensor  # [P, <= LOOKS[-1].numbers] int8, the numbers that all looks but the last are at
    trailing: torch.Tensor  # [P, the others] int8
    step: torch.Tensor  # [P] float32: code * step is the projected template
    aspect: torch.Tensor  # [P] float32, natural logarithm of the outline's width over its height

    @classmethod
    def of(cls, code: torch.Tensor, step: torch.Tensor, aspect: torch.Tensor) -> BankRows:
        """Those with the numbers code [P, r]."""
        split = LOOKS[-1].numbers
        return cls(code[:, :split].contiguous(), code[:, split:].contiguous(), step, aspect)

    @property
    def code(self) -> torch.Tensor:
        """All numbers [P, r], a copy."""
        return torch.cat([self.leading, self.trailing], 1)

    def __getitem__(self, index: torch.Tensor | slice) -> BankRows:
        """Some of them."""
        return BankRows(*(getattr(self, f.name)[index] for f in fields(self)))

    def first(self, look: Look) -> BankRows:
        """Those that are looked at, and of each what is looked at."""
        few = self[: look.templates]
        return BankRows(few.leading[:, : look.numbers], few.trailing[:, :0], few.step, few.aspect)

    @classmethod
    def joined(cls, parts: Sequence[BankRows]) -> BankRows:
        """One after the other."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))


@dataclass(frozen=True)
class BankMesh:
    """One mesh's part of a bank."""

    rows: BankRows  # so that any number of them from the front cover its poses evenly
    pose: torch.Tensor  # [P] int32, which template each row is
    attraction: torch.Tensor  # [L] float32, mean best approximate score of strangers, level by level
    spread: torch.Tensor  # [L] float32, its standard deviation


@dataclass(frozen=True)
class Bank:
    """Compressed templates of M meshes, mesh after mesh, T in all."""

    basis: Basis
    rows: BankRows  # of the T templates
    first: BankRows  # the first level's of every mesh once more, F in all
    pose: torch.Tensor  # [T] int32, of `BankMesh`
    count: torch.Tensor  # [M] int64, templates of each mesh
    attraction: torch.Tensor  # [M, L] float32, of `BankMesh`
    spread: torch.Tensor  # [M, L] float32

    @classmethod
    def of(cls, basis: Basis, meshes: Sequence[BankMesh]) -> Bank:
        """Put the parts of some meshes together; raises ValueError for none."""
        if not meshes:
            raise ValueError("meshes: expected at least one, got none")
        return cls(
            basis,
            BankRows.joined([m.rows for m in meshes]),
            BankRows.joined([m.rows.first(LOOKS[0]) for m in meshes]),
            torch.cat([m.pose for m in meshes]),
            torch.tensor([len(m.pose) for m in meshes]),
            torch.stack([m.attraction for m in meshes]),
            torch.stack([m.spread for m in meshes]),
        )

    def meshes(self) -> list[BankMesh]:
        """Its parts, as views."""
        sizes = self.count.tolist()
        rows = (getattr(self.rows, f.name).split(sizes) for f in fields(BankRows))
        split = zip(zip(*rows, strict=True), self.pose.split(sizes), self.attraction, self.spread, strict=True)
        return [BankMesh(BankRows(*r), *rest) for r, *rest in split]

    def to_tensors(self) -> dict[str, torch.Tensor]:
        parts: dict[str, Basis | BankRows] = {"basis": self.basis, "rows": self.rows, "first": self.first}
        own = {name: value for name, value in vars(self).items() if name not in parts}
        nested = {f"{name}.{f.name}": getattr(part, f.name) for name, part in parts.items() for f in fields(part)}
        return own | nested | {"basis.blocks": torch.tensor(self.basis.blocks)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Bank:
        def part(name: str) -> dict[str, torch.Tensor]:
            return {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}

        basis = Basis(tensors["basis.channels"], tensors["basis.directions"], int(tensors["basis.blocks"]))
        own = (tensors[name] for name in ("pose", "count", "attraction", "spread"))
        return cls(basis, BankRows(**part("rows")), BankRows(**part("first")), *own)

    def to(self, device: torch.device) -> Bank:
        return Bank.from_tensors({name: moved(tensor, device) for name, tensor in self.to_tensors().items()})

    @property
    def bytes(self) -> int:
        """What it takes in memory; `budget.py` has the formula."""
        return sum(t.nbytes for t in self.to_tensors().values())


@dataclass(frozen=True)
class CompressedCrops:
    """Crops in some turns, as a bank compares them."""

    code: torch.Tensor  # [B, T, r] int8
    step: torch.Tensor  # [B, T] float32

    @classmethod
    def of(cls, maps: torch.Tensor, basis: Basis) -> CompressedCrops:
        """Compress feature maps [B, T, D, g, g]."""
        pooled = pool_maps(maps.flatten(0, 1), basis.blocks)
        return cls(*quantised(basis.project(pooled).unflatten(0, maps.shape[:2])))

    def turned(self, turns: Sequence[int]) -> CompressedCrops:
        """In these of the turns only."""
        return CompressedCrops(self.code[:, list(turns)], self.step[:, list(turns)])

    def crops(self, chosen: Sequence[int]) -> CompressedCrops:
        """These of the crops only."""
        return CompressedCrops(self.code[list(chosen)], self.step[list(chosen)])

    def similarity(self, rows: BankRows, index: torch.Tensor, numbers: int) -> torch.Tensor:
        """Approximate eq. 8 [B, T, n] with the templates of these rows [n], by the first numbers of their codes."""
        return self.values(rows, index, numbers, torch.zeros_like(self.step), 0.0)

    def values(
        self, rows: BankRows, index: torch.Tensor, numbers: int, aspect: torch.Tensor, weight: float
    ) -> torch.Tensor:
        """The same less `weight` times what the outlines' log aspects differ by from aspect [B, T]."""
        if rows.step.device.type != "cpu":
            return self.values_in_tensors(rows, index, numbers, aspect, weight)
        mine = BankRows(*self._parts(rows, numbers), self.step.flatten(), aspect.flatten())
        crops, theirs = (Coded(*(t.contiguous().numpy() for t in vars(coded).values())) for coded in (mine, rows))
        found = values(crops, theirs, index.numpy(), weight)
        return torch.from_numpy(found).view(*self.step.shape, -1)

    def values_in_tensors(
        self, rows: BankRows, index: torch.Tensor, numbers: int, aspect: torch.Tensor, weight: float
    ) -> torch.Tensor:
        """`values` on any device."""
        leading, trailing = self._parts(rows, numbers)
        product = quantised_product(leading, rows.leading, index)
        if trailing.shape[1]:
            product = product + quantised_product(trailing, rows.trailing, index)
        product = product.view(*self.step.shape, -1)
        similarity = (product * self.step[..., None]).mul_(rows.step.index_select(0, index))
        return similarity.sub_((aspect[..., None] - rows.aspect[index]).abs_().mul_(weight))

    def _parts(self, rows: BankRows, numbers: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first numbers [B * T, ...] that meet the leading ones of rows, and those that meet the trailing ones."""
        mine, split = self.code[..., :numbers].flatten(0, 1), rows.leading.shape[1]
        return mine[:, :split], mine[:, split:]


def cover_order(rotation: torch.Tensor, turns: Sequence[int]) -> torch.Tensor:
    """Indices [P] int32 of rotations [P, 3, 3], each as far as possible from all before it: any prefix covers the poses evenly.

    A template stands for its pose in all quarter `turns` of the crop. Beyond the last of `LOOKS` the order is that of the poses.
    """
    by_turn = torch.stack([torch.as_tensor(quarter_turn(turn)).to(rotation) for turn in turns])
    turned, flat = (by_turn[:, None] @ rotation).flatten(2), rotation.flatten(1)  # [T, P, 9], [P, 9]
    nearest = flat.new_full((len(flat),), -torch.inf)  # trace of the way to the nearest chosen one: 3 is no way at all
    left = torch.ones(len(flat), dtype=torch.bool, device=flat.device)
    chosen: list[int] = []
    for _ in range(min(LOOKS[-1].templates, len(flat))):
        chosen.append(int(nearest.masked_fill(~left, torch.inf).argmin()))
        left[chosen[-1]] = False
        nearest = torch.maximum(nearest, (turned[:, chosen[-1]] @ flat.T).amax(0))
    return torch.cat([torch.tensor(chosen), left.nonzero()[:, 0].cpu()]).int()


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device, copied a piece at a time: a mapped file need not fit into the host's memory for it."""
    if tensor.device == device or tensor.nbytes <= MOVED_AT_A_TIME or not tensor.ndim:
        return tensor.to(device)
    there = torch.empty_like(tensor, device=device)
    rows = max(MOVED_AT_A_TIME // (tensor.nbytes // len(tensor)), 1)
    for begin in range(0, len(tensor), rows):
        there[begin : begin + rows] = tensor[begin : begin + rows].to(device)
    return there


def pool_maps(maps: torch.Tensor, blocks: int) -> torch.Tensor:
    """Feature maps [B, D, g, g] averaged over blocks of cells: [B, b*b, D]."""
    if maps.shape[-1] % blocks == 0:
        return torch.nn.functional.avg_pool2d(maps, maps.shape[-1] // blocks).flatten(2).transpose(1, 2)
    share = _pooling(maps.shape[-1], blocks).to(maps)
    return share @ maps.flatten(2).transpose(1, 2)


@lru_cache(maxsize=8)
def _pooling(grid: int, blocks: int) -> torch.Tensor:
    """Which share of every block [b*b, g*g] a cell is; blocks overlap where they do not divide the grid."""
    cells = torch.eye(grid * grid).unflatten(1, (grid, grid))
    return torch.nn.functional.adaptive_avg_pool2d(cells, blocks).flatten(1).T.contiguous()


def fit_basis(clouds: Sequence[tuple[Templates, torch.Tensor]], grid: int, config: BankConfig, seed: int = 0) -> Basis:
    """Principal directions of a library's templates, from some of its meshes: (templates, features [N, D]) of each."""
    features = torch.cat([f[:: max(len(f) * len(clouds) // SAMPLE_ROWS, 1)] for _, f in clouds])
    channels = torch.linalg.eigh(features.T @ features)[1].flip(1)[:, : config.channels].contiguous()
    share = max(SAMPLE_ROWS // len(clouds), 1)
    rows = []
    for templates, f in clouds:
        pooled = pool_templates(templates, f @ channels, grid, config.blocks).flatten(1)
        rows.append(pooled[:: max(len(pooled) // share, 1)])
    sample = torch.cat(rows)
    rank = min(config.rank, *sample.shape)
    with torch.random.fork_rng():  # svd_lowrank draws from the global generator
        torch.manual_seed(seed)
        directions = torch.svd_lowrank(sample, min(rank + 16, *sample.shape), SUBSPACE_ROUNDS)[2][:, :rank]
    return Basis(channels, directions.contiguous(), config.blocks)


def bank_rows(templates: Templates, features: torch.Tensor, grid: int, basis: Basis) -> BankRows:
    """Compress one mesh's templates; features [N, D]."""
    pooled = pool_templates(templates, features @ basis.channels, grid, basis.blocks)
    projected = pooled.flatten(1) @ basis.directions
    return BankRows.of(*quantised(projected), log_aspect(templates.outline))


def quantised(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [..., r] as int8 [..., r] and the size of a step of each [...]."""
    step = rows.abs().amax(-1).clamp(min=1e-12) / INT8_MAX
    return (rows / step[..., None]).round().to(torch.int8), step


def quantised_product(left: torch.Tensor, right: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Inner products [a, n] int32 of int8 rows [a, r] with the first r numbers of the rows `index` [n] of [P, >= r]."""
    chosen = right[:, : left.shape[1]].index_select(0, index)
    if not left.is_cuda:
        return left.int() @ chosen.int().T
    # CUDA's kernel wants more than 16 rows, and multiples of 8
    padded = torch.nn.functional.pad(left, (0, -left.shape[1] % 8, 0, max(24 - len(left), -len(left) % 8)))
    other = torch.nn.functional.pad(chosen, (0, -chosen.shape[1] % 8, 0, -len(chosen) % 8))
    return torch._int_mm(padded, other.T)[: len(left), : len(chosen)]
