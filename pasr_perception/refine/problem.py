"""What refinement is given and what it gives back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache

import numpy as np
import torch

from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.kernels.compiled import as_numbers
from pasr_perception.kernels.surface import Cloud
from pasr_perception.kernels.visit import Poses, Raster
from pasr_perception.refine.outline import outer_points
from pasr_perception.render.splat import SplatConfig
from pasr_perception.types import Crop


def grid_cells(maps: torch.Tensor) -> torch.Tensor:
    """Feature maps [B, D, g, g] as one row per cell [B, g * g, D]; no copy where a cell's channels lie together already."""
    return maps.flatten(2).transpose(1, 2).contiguous()


@dataclass(frozen=True)
class Clouds:
    """The point clouds of the meshes that take part, float32; on the CPU features may be float16."""

    points: torch.Tensor  # [C, N, 3] normalised frame
    parts: torch.Tensor | Sequence[torch.Tensor]  # the features [N, D] of each, apart since they are megabytes
    known_outer: torch.Tensor | None = None  # [C, K, 3] the `outer_points` of each where they are known already
    channels: torch.Tensor | None = None  # [D, R] orthonormal, the leading ones of the library where they are known
    chroma: torch.Tensor | None = None  # [C, N, 2] 0 of clouds without; None where none has any
    rough: Sequence[torch.Tensor] | None = None  # the leading channels [N, R] of each where they are known already

    @cached_property
    def features(self) -> torch.Tensor:
        """[C, N, D] float32; copies them where they are apart."""
        return (
            self.parts if isinstance(self.parts, torch.Tensor) else torch.stack([part.float() for part in self.parts])
        )

    @cached_property
    def in_loops(self) -> list[Cloud]:
        """Each as the CPU's loops read it."""
        each = zip(self.points, self.parts, self.outer, strict=True)
        return [Cloud(*(as_numbers(t) for t in tensors)) for tensors in each]

    @cached_property
    def outer(self) -> torch.Tensor:
        """The points [C, K, 3] that may form the outlines of each."""
        if self.known_outer is not None:
            return self.known_outer
        return torch.stack([points[outer_points(points)] for points in self.points])

    def leading(self, features: torch.Tensor) -> torch.Tensor:
        """The leading channels [..., R] of features [..., D], enough for where to look; all where none are known."""
        return features if self.channels is None else features @ self.channels

    @cached_property
    def narrow(self) -> Clouds:
        """The same with leading channels for features."""
        if self.channels is None:
            return self
        rough = [self.leading(part.float()) for part in self.parts] if self.rough is None else self.rough
        return Clouds(self.points, rough, self.outer)


@dataclass(frozen=True)
class Cells:
    """What B crops show, cell by cell."""

    unit: torch.Tensor  # [B, g * g, D] unit features, or some of their channels
    clouds: Clouds  # that are compared with them
    counts: torch.Tensor  # [B, g * g] how much each cell counts in `Visited.where_shown`

    @classmethod
    def of(cls, maps: torch.Tensor, clouds: Clouds, counts: torch.Tensor | None = None) -> Cells:
        """Maps [B, D, g, g] of unit features; counts [B, g, g]: without, all count alike."""
        unit = grid_cells(maps)
        return cls(unit, clouds, unit.new_ones(unit.shape[:2]) if counts is None else counts.flatten(1))

    @cached_property
    def narrow(self) -> Cells:
        """The same with leading channels for features."""
        return replace(self, unit=self.clouds.leading(self.unit).contiguous(), clouds=self.clouds.narrow)

    def in_loops(self, crop: int) -> tuple[np.ndarray, np.ndarray]:
        """One crop's [g * g, D] and how much they count [g * g], as the CPU's loops read them."""
        return self.unit[crop].numpy(), self.counts[crop].numpy()


@dataclass(frozen=True)
class RenderScene:
    """What rendering needs besides the cloud: the crop's geometry and the splatting."""

    view: ViewSpec
    splat: SplatConfig

    @property
    def raster(self) -> Raster:
        """As the CPU's loops read it."""
        return Raster.of(self.view.numbers, self.splat.splatting)


@dataclass(frozen=True)
class Boxes:
    """The detection's box of every hypothesis, in the crop that it is refined in."""

    edges: torch.Tensor  # [H, 4] x_min, y_min, x_max, y_max in crop sizes
    clipped: torch.Tensor  # [H, 4] bool: the image border cuts here, so the object may go beyond

    @classmethod
    def of(cls, crops: Sequence[Crop], device: torch.device) -> Boxes:
        """The detections' boxes of crops, one each."""
        edges = torch.tensor(np.stack([c.box / len(c.image) for c in crops]), dtype=torch.float32)
        return cls(edges.to(device), torch.tensor(np.stack([c.clipped for c in crops])).to(device))

    def chosen(self, index: torch.Tensor) -> Boxes:
        """Some of them."""
        return Boxes(self.edges[index], self.clipped[index])

    def turned(self, turn: torch.Tensor) -> Boxes:
        """The boxes in crops that were turned anticlockwise by `turn` [H] quarters."""
        edge = _turned_edges(self.edges.device)[turn % 4]  # [H, 4]
        both = torch.cat([self.edges, 1 - self.edges], 1)  # [H, 8]
        return Boxes(both.gather(1, edge), self.clipped.gather(1, edge % 4))


@lru_cache(maxsize=4)
def _turned_edges(device: torch.device) -> torch.Tensor:
    """[4, 4] which edge each is after so many turns anticlockwise; 4 more where it is 1 less that one."""
    once, edge = torch.tensor([1, 6, 3, 4]), torch.arange(4)  # top, 1 - right, bottom, 1 - left
    turned = [edge]
    for _ in range(3):
        before = turned[-1][once % 4]
        turned.append((before + torch.where(once >= 4, 4, 0)) % 8)
    return torch.stack(turned).to(device)


@dataclass(frozen=True)
class Contest:
    """Which hypotheses are rivals, and what each one's similarity has to stand out from."""

    sizes: tuple[int, ...]  # so many of the first detection, then so many of the next
    offset: torch.Tensor  # [H] of its mesh, see `types.Rivals`
    spread: torch.Tensor  # [H]

    def margin(self, value: torch.Tensor) -> torch.Tensor:
        """How many spreads each one's value [H] lies above its offset."""
        return (value - self.offset) / self.spread

    def finalists(self, value: torch.Tensor, count: int) -> torch.Tensor:
        """Indices of up to `count` of each detection that stand out most by value [H], ascending.

        How many is known from the sizes: a GPU need not say.
        """
        group = torch.tensor([g for g, size in enumerate(self.sizes) for _ in range(size)], device=value.device)
        order = self.margin(value).argsort(descending=True, stable=True)
        order = order[group[order].argsort(stable=True)]  # detection after detection, best first
        ends = itertools.accumulate(self.sizes)
        first = [end - size + k for size, end in zip(self.sizes, ends, strict=True) for k in range(min(size, count))]
        return order[torch.tensor(first, device=value.device)].sort().values


@dataclass(frozen=True)
class Hypotheses:
    """What is to be refined: H starting rotations, each of one cloud in one crop."""

    rotation: torch.Tensor  # [H, 3, 3] float32, R_crop_obj
    cloud: torch.Tensor  # [H] int64 into the clouds
    crop: torch.Tensor  # [H] int64 into the maps
    boxes: Boxes | None = None  # where the outlines should end; needed with more than three unknowns
    contest: Contest | None = None  # without it all are refined to the end
    similarity: torch.Tensor | None = None  # [H] eq. 8 at these rotations, where it is known

    def chosen(self, index: torch.Tensor) -> Hypotheses:
        """Some of them, rivals no more."""
        boxes = None if self.boxes is None else self.boxes.chosen(index)
        return Hypotheses(self.rotation[index], self.cloud[index], self.crop[index], boxes)


@dataclass(frozen=True)
class Pose:
    """Rotations, and where the objects are in their crops relative to the placement by outline."""

    rotation: torch.Tensor  # [H, 3, 3] R_crop_obj
    shift: torch.Tensor  # [H, 2] crop sizes, x right, y down
    log_scale: torch.Tensor  # [H] of the image about the crop's middle, before the shift

    @classmethod
    def by_outline(cls, rotation: torch.Tensor) -> Pose:
        return cls(rotation, rotation.new_zeros(len(rotation), 2), rotation.new_zeros(len(rotation)))

    def chosen(self, index: torch.Tensor) -> Pose:
        """Some of them."""
        return Pose(self.rotation[index], self.shift[index], self.log_scale[index])

    def turned(self, turn: torch.Tensor) -> Pose:
        """The same in crops that turns [H, 3, 3] about the line of sight lead to."""
        return Pose(turn @ self.rotation, (turn[:, :2, :2] @ self.shift[..., None])[..., 0], self.log_scale)

    @property
    def in_loops(self) -> Poses:
        """As the CPU's loops read them."""
        moved = torch.cat([self.shift, self.log_scale[:, None]], 1)
        return Poses(self.rotation.cpu().contiguous().numpy(), moved.cpu().numpy())

    def replaced(self, by: Pose, where: torch.Tensor) -> Pose:
        """The poses `where` [H] bool from others."""
        return Pose(
            torch.where(where[:, None, None], by.rotation, self.rotation),
            torch.where(where[:, None], by.shift, self.shift),
            torch.where(where, by.log_scale, self.log_scale),
        )

    def move(self, uv: torch.Tensor, size: int) -> torch.Tensor:
        """Pixels [H, N, 2] of the placement by outline, moved by shift and scale in an image of `size` pixels."""
        return (uv - size / 2) * self.log_scale.exp()[:, None, None] + (self.shift[:, None] + 0.5) * size


@dataclass(frozen=True)
class Refined:
    """The best that was visited; its place in the crop is that of `Pose`."""

    rotation: torch.Tensor  # [H, 3, 3]
    similarity: torch.Tensor  # [H] eq. 8 at that pose
    shift: torch.Tensor  # [H, 2] crop sizes
    log_scale: torch.Tensor  # [H]
    where_shown: torch.Tensor  # [H] eq. 8 there over cells as much as they count, NaN where nobody looked

    @classmethod
    def of(cls, pose: Pose, similarity: torch.Tensor, where_shown: torch.Tensor | None = None) -> Refined:
        unknown = torch.full_like(similarity, torch.nan)
        return cls(
            pose.rotation, similarity, pose.shift, pose.log_scale, unknown if where_shown is None else where_shown
        )

    @property
    def pose(self) -> Pose:
        return Pose(self.rotation, self.shift, self.log_scale)

    def chosen(self, index: torch.Tensor) -> Refined:
        """Some of them."""
        return Refined(*(getattr(self, f.name)[index] for f in fields(self)))

    def replaced(self, by: Refined, at: torch.Tensor) -> Refined:
        """The same with those at an index from others."""
        pairs = ((getattr(self, f.name), getattr(by, f.name)) for f in fields(self))
        return Refined(*(mine.index_copy(0, at, other) for mine, other in pairs))
