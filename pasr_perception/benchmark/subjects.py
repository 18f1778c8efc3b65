"""The ways to score every pose of one mesh against crops, behind one signature: maps [B, T, D, g, g] -> scores [B, T * P].

All of them compute eq. 8 of PASR. `RenderAndCompare` is what the paper does (render the point features at every pose, masked
mean cosine), with this project's splatting or with PyTorch3D's own rasteriser and compositor. `SparseExact` is
`templates.score_templates`. `DenseTemplates` stores every rendered map in half precision: one matrix product, and memory for it.
The order of the scores is that of the search: turns of the crop, and poses within each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.viewpoints import QUARTER_TURNS
from pasr_perception.library.store import MeshLibrary
from pasr_perception.render.pytorch3d_conventions import ndc_from_pixels
from pasr_perception.render.splat import SplatConfig, composite, rasterise, splat
from pasr_perception.templates import Templates, score_templates

POSES_PER_BLOCK = 16  # rendered at a time; the fastest of 8, 16, 32 and 64 on two cores

# uv [B, N, 2], depth [B, N], features [N, D], splatting -> image [B, D, g, g], mask [B, g, g]
Renderer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, SplatConfig], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class MeshModel:
    """One mesh of a library with all that any of the subjects needs."""

    points: torch.Tensor  # [N, 3] float32, normalised frame
    features: torch.Tensor  # [N, D] float32
    templates: Templates
    turns: tuple[int, ...]
    view: ViewSpec
    splat: SplatConfig

    @classmethod
    def load(cls, library: MeshLibrary, index: int, device: torch.device) -> MeshModel:
        data, header = library.data(index), library.header
        turns = QUARTER_TURNS[library.entries[index].pose_set]
        templates = library.templates(index).to(device)
        features = data.features.float().to(device)
        return cls(data.points.to(device), features, templates, turns, header.view, header.splat)


class SparseExact:
    """Exact scores from precomputed sparse weights, as `templates.py` computes them."""

    def __init__(self, model: MeshModel) -> None:
        self._model = model

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        m = self._model
        return torch.cat([score_templates(maps[:, turn], m.features, m.templates) for turn in m.turns], 1)


class RenderAndCompare:
    """PASR's own search with this project's splatting: render at every pose, masked mean cosine with each turned map.

    Only covered pixels are composited and compared, which makes it about twice as fast as dense images would be.
    """

    def __init__(self, model: MeshModel) -> None:
        self._model = model

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        m, cells = self._model, self._model.splat.size**2
        wanted = maps[:, list(m.turns)].flatten(0, 1).flatten(2).transpose(1, 2).contiguous()  # [B * T, g * g, D]
        scores = []
        for uv, depth in _projected(m):
            fragments = rasterise(uv, depth, m.splat)
            rendered = torch.nn.functional.normalize(composite(fragments, m.features), dim=1)  # [M, D]
            pose, pixel = fragments.pixel // cells, fragments.pixel % cells
            area = torch.bincount(pose, minlength=len(uv)).clamp(min=1)
            sums = [
                rendered.new_zeros(len(uv)).index_add_(0, pose, (rendered * query[pixel]).sum(1)) for query in wanted
            ]
            scores.append(torch.stack(sums) / area)
        return torch.cat(scores, 1).reshape(len(maps), -1)


class DenseRenderAndCompare:
    """The same with whole images, which is what PyTorch3D renders."""

    def __init__(self, model: MeshModel, renderer: Renderer) -> None:
        self._model, self._renderer = model, renderer

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        wanted = maps[:, list(self._model.turns)].flatten(2).flatten(0, 1)  # [B * T, D * g * g]
        scores = []
        for image, area in _rendered(self._model, self._renderer):
            scores.append(image @ wanted.T / area[:, None])
        return torch.cat(scores).T.reshape(len(maps), -1)


class DenseTemplates:
    """Every pose's unit feature map stored in half precision; scoring is one matrix product."""

    def __init__(self, model: MeshModel) -> None:
        blocks = [(image.half(), area) for image, area in _rendered(model, splat)]
        self._maps, self._area = torch.cat([image for image, _ in blocks]), torch.cat([area for _, area in blocks])
        self._turns = model.turns

    @property
    def nbytes(self) -> int:
        return self._maps.nbytes + self._area.nbytes

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        wanted = maps[:, list(self._turns)].flatten(2).flatten(0, 1).half()  # [B * T, D * g * g]
        sums = (self._maps @ wanted.T).float()  # [P, B * T]; the area is divided out in float32, half would lose digits
        return (sums / self._area[:, None]).T.reshape(len(maps), -1)


def _projected(model: MeshModel) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The model's points at all its poses, some at a time: uv [p, N, 2] and depth [p, N]."""
    for rotation in model.templates.rotation.split(POSES_PER_BLOCK):
        rotated = model.points @ rotation.transpose(1, 2)
        yield project(rotated, place(rotated, model.view), model.splat.size)


def _rendered(model: MeshModel, renderer: Renderer) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Unit feature maps [p, D * g * g], 0 where nothing is, and covered pixels [p] of all poses, some at a time."""
    for uv, depth in _projected(model):
        image, mask = renderer(uv, depth, model.features, model.splat)
        yield torch.nn.functional.normalize(image, dim=1).flatten(1), mask.flatten(1).sum(1).clamp(min=1)


def pytorch3d_renderer() -> Renderer | None:
    """PyTorch3D's rasteriser and its own norm-weighted compositor as a renderer; None where it cannot be imported."""
    try:
        from pytorch3d.renderer.compositing import norm_weighted_sum
        from pytorch3d.renderer.points.rasterize_points import rasterize_points
        from pytorch3d.structures import Pointclouds
    except (ImportError, OSError):  # OSError: its extension was built for another torch
        return None

    def render(
        uv: torch.Tensor, depth: torch.Tensor, features: torch.Tensor, config: SplatConfig
    ) -> tuple[torch.Tensor, torch.Tensor]:
        clouds = Pointclouds(list(torch.cat([ndc_from_pixels(uv, config.size), depth[..., None]], -1)))
        packed, z, d2 = rasterize_points(
            clouds, config.size, config.radius, config.points_per_pixel, bin_size=0
        )  # [B, g, g, K]
        mask = packed[..., 0] >= 0
        if config.depth_band is not None:  # PyTorch3D has no such thing; dropping the slots is all it takes
            packed = torch.where(z <= z[..., :1] + config.depth_band, packed, -1)
        index = torch.where(packed >= 0, packed % depth.shape[1], -1)  # every cloud has the same features
        weight = 1 - d2 / config.radius**2
        image = norm_weighted_sum(index.permute(0, 3, 1, 2).long(), weight.permute(0, 3, 1, 2), features.T.contiguous())
        return image, mask

    return render
