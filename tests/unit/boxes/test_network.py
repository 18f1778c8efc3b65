"""The box network: what it is told of the box against loops, what it may answer, and that it can learn to see an edge."""

from __future__ import annotations

import math

import pytest
import torch

from pasr_perception.boxes.network import (
    CELL,
    CHANNELS,
    CROP,
    GRID,
    LEAST_REACH,
    REACH,
    SOFT,
    STEP,
    EdgeHead,
    Trunk,
    beliefs,
    expected,
    placed,
    positions,
    sides,
)

BOX = torch.tensor([[40.0, 60, 180, 150], [100, 30, 110, 190]])


def random_taps(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, c, g, g, generator=generator) for c, g in zip(CHANNELS, (GRID, GRID // 2), strict=True)]


def test_what_is_told_of_the_box_against_a_loop() -> None:
    place = placed(BOX)

    def soft(at: float, low: float, high: float) -> float:
        return 1 / (1 + math.exp((low - at) / SOFT)) / (1 + math.exp((at - high) / SOFT))

    for b, row, column in ((0, 3, 20), (0, 12, 12), (1, 27, 0)):
        x, y = (column + 0.5) * CELL, (row + 0.5) * CELL
        x0, y0, x1, y1 = BOX[b].tolist()
        across, down = soft(x, x0, x1), soft(y, y0, y1)
        told = ((x - (x0 + x1) / 2) / (x1 - x0), (y - (y0 + y1) / 2) / (y1 - y0), across * down, across + down - 1)
        assert place[b, :, row, column].tolist() == pytest.approx(told, abs=1e-5)


def test_an_untrained_head_leaves_edges_about_where_they_are() -> None:
    edges = expected(beliefs(EdgeHead()(random_taps(2), BOX), BOX))
    assert (edges - BOX).abs().max() <= STEP / 2


def test_no_edge_is_believed_beyond_its_reach() -> None:
    logits = torch.zeros(2, 4, len(positions(BOX.device)))
    logits[..., 0] = 50.0  # all for the crop's own border
    belief = beliefs(logits, BOX)
    assert belief.sum(-1) == pytest.approx(torch.ones(2, 4))
    off = (positions(BOX.device) - BOX[..., None]).abs()
    reach = (REACH * sides(BOX)).clamp_min(LEAST_REACH)
    assert belief[off > reach[..., None]].max() < 1e-6
    assert reach[1, 0] == LEAST_REACH  # a box 10 pixels wide has some position to choose all the same
    assert torch.isfinite(expected(belief)).all()


def test_a_sharp_belief_is_its_position() -> None:
    where = torch.tensor([[45.0, 61.0, 175.0, 151.0]])
    at = (positions(BOX.device) - where[..., None]).abs().argmin(-1)
    logits = torch.nn.functional.one_hot(at, len(positions(BOX.device))) * 100.0
    assert expected(beliefs(logits, BOX[:1])) == pytest.approx(where, abs=STEP / 2)


def test_the_trunk_gives_its_two_taps() -> None:
    images = torch.randint(0, 255, (2, 3, CROP.size, CROP.size), dtype=torch.uint8)
    trunk = Trunk()
    fine, coarse = trunk(images)
    assert fine.shape == (2, CHANNELS[0], GRID, GRID)
    assert coarse.shape == (2, CHANNELS[1], GRID // 2, GRID // 2)
    assert all(torch.allclose(a, b[:1], atol=1e-4) for a, b in zip(trunk(images[:1]), (fine, coarse), strict=True))


def test_it_learns_to_see_edges() -> None:
    """Taps that are 1 inside the object: after a few steps edges are found that the box says wrongly."""
    generator = torch.Generator().manual_seed(1)
    low, side = torch.rand(16, 2, generator=generator) * 40 + 30, torch.rand(16, 2, generator=generator) * 60 + 70
    true = torch.cat([low, low + side], 1)
    box = true + (torch.rand(16, 4, generator=generator) - 0.5) * 0.2 * sides(true)
    taps = []
    for channels, grid in zip(CHANNELS, (GRID, GRID // 2), strict=True):
        centre = (torch.arange(grid) + 0.5) * CROP.size / grid
        size = CROP.size / grid
        across, down = (
            ((centre - true[:, i, None]) / size + 0.5).clamp(0, 1)
            * ((true[:, i + 2, None] - centre) / size + 0.5).clamp(0, 1)
            for i in (0, 1)
        )
        taps.append((down[:, :, None] * across[:, None, :])[:, None].expand(-1, channels, -1, -1))
    torch.manual_seed(0)
    head = EdgeHead()
    optimiser = torch.optim.Adam(head.parameters(), 2e-3)

    def error() -> torch.Tensor:
        return ((expected(beliefs(head(taps, box), box)) - true) / sides(true)).abs().mean()

    before = float(error().detach())
    for _ in range(30):
        optimiser.zero_grad()
        loss = error()
        loss.backward()
        optimiser.step()
    assert float(error().detach()) < 0.5 * before
