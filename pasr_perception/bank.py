"""The bank: all templates of a library, compressed so far that one matrix product compares a crop with every one of them.

Eq. 8 of a pose is an inner product of the crop's feature map with the template's unit feature map, divided by its area. Both
are averaged over blocks of cells, and what is left is projected onto the leading principal directions of the library's own
templates (first over channels, then over the whole pooled map) and quantised to int8. What remains is half a kB per pose:
enough to say which meshes and poses are worth an exact look, not to rank them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pasr_perception.config import BankConfig
from pasr_perception.templates import Templates, log_aspect, pool_templates

SAMPLE_ROWS = 6000  # pooled templates that the directions are fitted on
SUBSPACE_ROUNDS = 3  # of the randomised decomposition; directions beyond the first dozen need no more
INT8_MAX = 127.0


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
        """Pooled maps [..., b*b, D] -> [..., r]."""
        return (pooled @ self.channels).flatten(-2) @ self.directions


@dataclass(frozen=True)
class Bank:
    """Compressed templates of M meshes, mesh after mesh, T in all."""

    basis: Basis
    code: torch.Tensor  # [T, r] int8
    step: torch.Tensor  # [T] float32: code * step is the projected template
    aspect: torch.Tensor  # [T] float32, natural logarithm of the outline's width over its height
    count: torch.Tensor  # [M] int64, templates of each mesh
    attraction: torch.Tensor  # [M] float32, mean best approximate score of crops that show something else
    spread: torch.Tensor  # [M] float32, its standard deviation

    def to_tensors(self) -> dict[str, torch.Tensor]:
        own = {name: tensor for name, tensor in vars(self).items() if name != "basis"}
        basis = {"basis.channels": self.basis.channels, "basis.directions": self.basis.directions}
        return own | basis | {"basis.blocks": torch.tensor(self.basis.blocks)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> Bank:
        basis = Basis(tensors["basis.channels"], tensors["basis.directions"], int(tensors["basis.blocks"]))
        return cls(basis, **{name: tensors[name] for name in cls.__dataclass_fields__ if name != "basis"})

    def to(self, device: torch.device) -> Bank:
        tensors = {name: tensor.to(device) for name, tensor in self.to_tensors().items()}
        return Bank.from_tensors(tensors)


@dataclass(frozen=True)
class BankRows:
    """One mesh's part of a bank."""

    code: torch.Tensor  # [P, r] int8
    step: torch.Tensor  # [P] float32
    aspect: torch.Tensor  # [P] float32


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

    def similarity(self, code: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Approximate eq. 8 [B, T, n] with templates of code [n, r] and step [n]."""
        product = quantised_product(self.code.flatten(0, 1), code).view(*self.step.shape, -1)
        return (product * self.step[..., None]).mul_(step)


def pool_maps(maps: torch.Tensor, blocks: int) -> torch.Tensor:
    """Feature maps [B, D, g, g] averaged over blocks of cells: [B, b*b, D]."""
    return torch.nn.functional.adaptive_avg_pool2d(maps, blocks).flatten(2).transpose(1, 2)


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
    return BankRows(*quantised(projected), log_aspect(templates.outline))


def quantised(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [..., r] as int8 [..., r] and the size of a step of each [...]."""
    step = rows.abs().amax(-1).clamp(min=1e-12) / INT8_MAX
    return (rows / step[..., None]).round().to(torch.int8), step


def quantised_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Integer inner products [a, b] of int8 rows [a, r] and [b, r]."""
    if left.is_cuda:  # CUDA's kernel wants more than 16 rows, and multiples of 8
        padded = torch.nn.functional.pad(left, (0, -left.shape[1] % 8, 0, max(24 - len(left), -len(left) % 8)))
        other = torch.nn.functional.pad(right, (0, -right.shape[1] % 8, 0, -len(right) % 8))
        return torch._int_mm(padded, other.T)[: len(left), : len(right)]
    return torch._int_mm(left, right.T)
