"""Colours: whether a crop shows a mesh's own where a pose says that they are. Own; PASR compares features alone.

Features of a 2D model say little of colour, and centring takes out what an object's features have in common. Two boxes with
other prints differ in little else, though. So where a mesh's colours are known, a pose may also be asked what it makes of the
crop's: over the pixels that it covers,

    hue     = mean(m . s)  / sqrt((mean |m|^2 + q) (mean |s|^2 + q))
    pattern = cov(m, s) / sqrt((var m + q) (var s + q))

with the chroma m that it shows and s that the crop has (a* and b* of CIELAB), and agreement = (hue + pattern) / 2. Light of another
colour moves all of s alike, which the pattern does not notice; light that is brighter or darker changes neither much. `q` keeps
grey from having an opinion: where mesh or crop have no colour, agreement is about 0. It says more for a mesh than against
it, since things come in colours that their CAD files do not have.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from pasr_perception.kernels import chroma as kernels
from pasr_perception.refine.problem import Clouds, Pose, RenderScene
from pasr_perception.refine.similarity import render, seen_features
from pasr_perception.templates import ChosenPoses, chosen_runs
from pasr_perception.types import Crop

GREY = 10.0  # chroma, CIELAB units, below which colours say little


def chroma_of(rgb: np.ndarray) -> np.ndarray:
    """a* and b* [N, 2] float32 of colours [N, 3], sRGB as uint8 or in 0..1."""
    unit = rgb.astype(np.float32) / np.float32(255 if rgb.dtype == np.uint8 else 1)
    return np.ascontiguousarray(cv2.cvtColor(unit[None], cv2.COLOR_RGB2LAB)[0, :, 1:], np.float32)


def crop_chroma(crops: Sequence[Crop], grid: int, turns: Sequence[int] = (0,)) -> torch.Tensor:
    """Mean chroma of every cell of a grid over crops turned anticlockwise by quarters: [B, T, g * g, 2] float32, on the CPU."""
    small = [cv2.resize(crop.image, (grid, grid), interpolation=cv2.INTER_AREA) for crop in crops]
    cells = torch.from_numpy(np.stack([chroma_of(image.reshape(-1, 3)) for image in small])).unflatten(1, (grid, grid))
    return torch.stack([torch.rot90(cells, turn, (1, 2)).flatten(1, 2) for turn in turns], 1)


def agreement(sums: torch.Tensor) -> torch.Tensor:
    """How well colours agree, -1..1 [k], from sums [k, 8] over pixels (`kernels.chroma`); 0 without pixels."""
    mean = sums[:, 1:] / sums[:, :1].clamp(min=1)
    shown, seen, (shown_square, seen_square, product) = mean[:, :2], mean[:, 2:4], mean[:, 4:].unbind(1)
    hue = product / ((shown_square + GREY**2) * (seen_square + GREY**2)).sqrt()
    varies = (shown_square - shown.square().sum(1)).clamp(min=0) + GREY**2
    seen_varies = (seen_square - seen.square().sum(1)).clamp(min=0) + GREY**2
    pattern = (product - (shown * seen).sum(1)) / (varies * seen_varies).sqrt()
    return (hue + pattern) / 2


def templates_sums(each: Sequence[ChosenPoses]) -> list[torch.Tensor]:
    """Sums [k, 8] of chosen poses of several, whose cells [T, g * g, 2] are the crops' chroma; 0 for a mesh without colours."""
    none = [c.cells.new_zeros(len(c.pose), kernels.SUMS) for c in each]
    if any(c.cloud.runs is not None for c in each):
        return [templates_sums_of_runs(c) if c.cloud.chroma is not None else z for c, z in zip(each, none, strict=True)]
    coloured = [c.in_loops(c.cloud.coloured) for c in each if c.cloud.chroma is not None]
    sums = iter(kernels.templates_sums(coloured) if coloured else [])
    return [torch.from_numpy(next(sums)) if c.cloud.chroma is not None else z for c, z in zip(each, none, strict=True)]


def templates_sums_of_runs(chosen: ChosenPoses) -> torch.Tensor:
    """`templates_sums` of a mesh with colours, on any device."""
    colours = chosen.cloud.chroma
    assert colours is not None
    runs = chosen_runs(chosen, torch.cat([colours, torch.ones_like(colours[:, :1])], 1))
    shown = runs.shown[:, :2] / runs.shown[:, 2:]
    return _summed(shown, chosen.cells.flatten(0, 1).index_select(0, runs.cell), runs.pose, len(chosen.pose))


def splats_agreement(
    pose: Pose, cloud: torch.Tensor, clouds: Clouds, chroma: torch.Tensor, crop: torch.Tensor, scene: RenderScene
) -> torch.Tensor:
    """How well colours of clouds [H] agree at poses in crops [H] whose cells have chroma [B, g * g, 2]; 0 for a cloud without."""
    if clouds.chroma is None:
        return chroma.new_zeros(len(cloud))
    if chroma.device.type != "cpu":
        return agreement(splats_sums(pose, cloud, clouds, chroma, crop, scene))
    points, colours = ([t[c].contiguous().numpy() for c in cloud.tolist()] for t in (clouds.points, clouds.chroma))
    coloured = kernels.Coloured(points, colours, [chroma[b].contiguous().numpy() for b in crop.tolist()])
    return agreement(torch.from_numpy(kernels.splats_sums(pose.in_loops, coloured, scene.raster)))


def splats_sums(
    pose: Pose, cloud: torch.Tensor, clouds: Clouds, chroma: torch.Tensor, crop: torch.Tensor, scene: RenderScene
) -> torch.Tensor:
    """The sums that `splats_agreement` is of, on any device."""
    assert clouds.chroma is not None
    rendered = render(pose, cloud, Clouds(clouds.points, clouds.chroma), scene)
    return _summed(rendered.feature, seen_features(rendered, crop, chroma), rendered.hypothesis, len(cloud))


def _summed(shown: torch.Tensor, seen: torch.Tensor, of: torch.Tensor, count: int) -> torch.Tensor:
    """Sums [count, 8] of pixels [M]."""
    products = torch.stack([shown.square().sum(1), seen.square().sum(1), (shown * seen).sum(1)], 1)
    each = torch.cat([torch.ones_like(shown[:, :1]), shown, seen, products], 1)
    return each.new_zeros(count, kernels.SUMS).index_add_(0, of, each)
