"""Where the object in a loose box ends: per edge of the box, a distribution over positions near it.

A small crop around the box goes through the first blocks of ImageNet's EfficientNet-lite0, whose weights stay as they are. A head
reads their maps beside where the box lies, and folds them along rows for the left and right edge, along columns for the upper
and lower one (side-aware localisation: Wang et al., ECCV 2020).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pasr_perception.crop import CropSpec
from pasr_perception.encoders.efficientnet_lite import MEAN, STD, dilated_efficientnet_lite0, speed_up

CROP = CropSpec(size=224, fill=0.62)  # the box with a third of it around
TAPS = (4, 10)  # blocks whose outputs are kept: stride 8 and 16
CHANNELS = (40, 112)
GRID = 28  # cells a side of the finer tap
CELL = CROP.size / GRID  # pixels
FINER = 4  # positions per cell
STEP = CELL / FINER  # pixels
WIDTH = 64  # channels of the head
PLACE = 4  # channels that say where a cell lies in the box
SOFT = 4.0  # pixels over which the inside of the box fades
REACH = 0.16  # of the box's side: an edge is looked for this far from where it is said to be
LEAST_REACH = 3.0  # pixels


class Trunk(nn.Module):
    """The network up to its stride-16 tap, frozen."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: Any | None = None) -> None:
        """`network`: one with these weights that is loaded already."""
        super().__init__()
        network = speed_up(dilated_efficientnet_lite0()) if network is None else network
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = nn.ModuleList(network._blocks[: TAPS[-1] + 1])
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1) * 255)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Crops [B, 3, S, S] uint8 RGB -> taps [B, 40, 28, 28] and [B, 112, 14, 14]."""
        x = ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        x, taps = self.stem(x), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPS:
                taps.append(x)
        return taps


class MixedTaps(nn.Module):
    """What heads have in common: both taps and the box's place, mixed into one map."""

    def __init__(self, dilations: tuple[int, ...]) -> None:
        """`dilations`: how far the layers after the first look."""
        super().__init__()
        self.near, self.far = (nn.Conv2d(c, WIDTH, 1) for c in CHANNELS)
        self.mix = nn.Conv2d(2 * WIDTH + PLACE, WIDTH, 3, padding=1)
        self.further = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=d, dilation=d) for d in dilations)

    def mixed(self, taps: list[torch.Tensor], box: torch.Tensor) -> torch.Tensor:
        """Taps of crops and their boxes [B, 4] in crop pixels -> [B, WIDTH, GRID, GRID]."""
        far = functional.interpolate(self.far(taps[1]), size=(GRID, GRID), mode="bilinear", align_corners=False)
        x = functional.relu(self.mix(torch.cat([self.near(taps[0]), far, placed(box)], 1)))
        for layer in self.further:
            x = x + functional.relu(layer(x))
        return x


class EdgeHead(MixedTaps):
    """Taps and boxes -> logits of every edge's position."""

    def __init__(self) -> None:
        super().__init__(dilations=(1, 1))
        self.along = nn.ModuleList(nn.Conv1d(c, WIDTH, 3, padding=1) for c in (2 * WIDTH, WIDTH))
        self.edges = nn.ConvTranspose1d(WIDTH, 2, FINER, stride=FINER)
        nn.init.zeros_(self.edges.weight)  # untrained, all positions are alike and edges stay about where they are
        nn.init.zeros_(self.edges.bias)  # type: ignore[arg-type]

    def forward(self, taps: list[torch.Tensor], box: torch.Tensor) -> torch.Tensor:
        """Taps of crops and their boxes [B, 4] in crop pixels -> [B, 4, GRID * FINER] for x_min, y_min, x_max, y_max."""
        inside_x, inside_y = inside(box)
        x = self.mixed(taps, box)
        left_right, up_down = self._folded(x, inside_y), self._folded(x.transpose(2, 3), inside_x)
        return torch.stack([left_right[:, 0], up_down[:, 0], left_right[:, 1], up_down[:, 1]], 1)

    def _folded(self, x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Logits [B, 2, GRID * FINER] of both edges along the last axis of x [B, C, g, g]; `inside` [B, g] of the other axis."""
        share = inside / inside.sum(1, keepdim=True)
        mean = (x * share[:, None, :, None]).sum(2)
        most = (x + inside.clamp_min(1e-3).log()[:, None, :, None]).amax(2)
        profile = torch.cat([mean, most], 1)
        for layer in self.along:
            profile = functional.relu(layer(profile))
        return self.edges(profile)


def inside(box: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far columns and rows [B, g] lie inside boxes [B, 4], softly."""
    return _between(box[:, 0], box[:, 2]), _between(box[:, 1], box[:, 3])


def _between(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    centre = (torch.arange(GRID, device=low.device) + 0.5) * CELL
    return torch.sigmoid((centre - low[:, None]) / SOFT) * torch.sigmoid((high[:, None] - centre) / SOFT)


def placed(box: torch.Tensor) -> torch.Tensor:
    """Of boxes [B, 4], [B, PLACE, g, g]: offset from the box's middle in its sides (x, y), inside, and in line with it."""
    inside_x, inside_y = inside(box)
    centre = (torch.arange(GRID, device=box.device) + 0.5) * CELL
    middle, side = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    off = (centre - middle[..., None]) / side[..., None]  # [B, 2, g]
    x, y = off[:, 0, None, :].expand(-1, GRID, -1), off[:, 1, :, None].expand(-1, -1, GRID)
    across, down = inside_x[:, None, :], inside_y[:, :, None]
    return torch.stack([x, y, across * down, across + down - 1], 1)


def sides(box: torch.Tensor) -> torch.Tensor:
    """The side [B, 4] that each edge of boxes [B, 4] moves along."""
    return (box[:, 2:] - box[:, :2]).repeat(1, 2)


def positions(device: torch.device) -> torch.Tensor:
    """[GRID * FINER] crop pixels of what logits belong to."""
    return (torch.arange(GRID * FINER, device=device) + 0.5) * STEP


def beliefs(logits: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Probabilities [B, 4, P] of each edge's position, none beyond its reach; box [B, 4] crop pixels."""
    off = (positions(box.device) - box[..., None]).abs()
    reach = (REACH * sides(box)).clamp_min(LEAST_REACH)
    return logits.masked_fill(off > reach[..., None], -1e4).softmax(-1)


def expected(belief: torch.Tensor) -> torch.Tensor:
    """Edges [B, 4] in crop pixels of beliefs [B, 4, P]."""
    return (belief * positions(belief.device)).sum(-1)
