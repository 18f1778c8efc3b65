"""The bank: all templates of a library, compressed so far that one matrix product compares a crop with every one of them.

Eq. 8 of a pose is an inner product of the crop's feature map with the template's unit feature map, divided by its area. Both
are averaged over blocks of cells, and what is left is projected onto the leading principal directions of the library's own
templates (first over channels, then over the whole pooled map) and quantised to int8. What remains is about 0.1 to 0.25 kB per
pose: enough to say which meshes and poses are worth an exact look, not to rank them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pasr_perception.config import BankConfig
from pasr_perception.templates import Templates

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
        own = {name: getattr(self, name) for name in ("code", "step", "aspect", "count", "attraction", "spread")}
        basis = {"basis.channels": self.basis.channels, "basis.directions": self.basis.directions}
        return own | basis | {"basis.blocks": torch.tensor(self.basis.blocks)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> Bank:
        basis = Basis(tensors["basis.channels"], tensors["basis.directions"], int(tensors["basis.blocks"]))
        own = {name: tensors[name] for name in ("code", "step", "aspect", "count", "attraction", "spread")}
        return cls(basis, **own)

    def to(self, device: torch.device) -> Bank:
        tensors = {name: tensor.to(device) for name, tensor in self.to_tensors().items()}
        return Bank.from_tensors(tensors)


@dataclass(frozen=True)
class BankRows:
    """One mesh's part of a bank."""

    code: torch.Tensor  # [P, r] int8
    step: torch.Tensor  # [P] float32
    aspect: torch.Tensor  # [P] float32


def pool_maps(maps: torch.Tensor, blocks: int) -> torch.Tensor:
    """Feature maps [B, D, g, g] averaged over blocks of cells: [B, b*b, D]."""
    return torch.nn.functional.adaptive_avg_pool2d(maps, blocks).flatten(2).transpose(1, 2)


def pool_templates(templates: Templates, features: torch.Tensor, grid: int, blocks: int) -> torch.Tensor:
    """Sums over blocks of a mesh's unit template maps over their areas [P, b*b, C]; features [N, C], any linear image of them.

    With `pool_maps` of a crop, sum_bC (pooled template * pooled crop) is eq. 8 with the crop's features averaged over blocks.
    """
    poses, points = len(templates.rotation), len(features)
    pixel = templates.pair.long() // points
    side = torch.arange(grid) * blocks // grid
    block = side[pixel // grid] * blocks + side[pixel % grid]
    length = torch.diff(templates.start.long(), append=torch.tensor([len(pixel)]))
    row = torch.repeat_interleave(torch.arange(poses), length) * blocks**2 + block
    index = torch.stack([row, templates.pair.long() % points])
    cells = torch.sparse_coo_tensor(index, templates.weight, (poses * blocks**2, points), check_invariants=False)
    return torch.sparse.mm(cells, features).view(poses, blocks**2, -1)


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
    code, step = quantised(projected)
    outline = templates.outline.clamp(min=1e-3).log()
    return BankRows(code, step, outline[:, 0] - outline[:, 1])


def quantised(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [n, r] as int8 [n, r] and the size of a step of each [n]."""
    step = rows.abs().amax(-1).clamp(min=1e-12) / INT8_MAX
    return (rows / step[:, None]).round().to(torch.int8), step


def quantised_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Integer inner products [a, b] of int8 rows [a, r] and [b, r]."""
    if left.is_cuda:  # CUDA's kernel wants more than 16 rows, and multiples of 8
        padded = torch.nn.functional.pad(left, (0, -left.shape[1] % 8, 0, max(24 - len(left), -len(left) % 8)))
        other = torch.nn.functional.pad(right, (0, -right.shape[1] % 8, 0, -len(right) % 8))
        return torch._int_mm(padded, other.T)[: len(left), : len(right)]
    return torch._int_mm(left, right.T)
