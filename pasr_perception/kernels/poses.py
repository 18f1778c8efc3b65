"""Eq. 8 of chosen poses from their sparse weights. Twin: `templates.score_poses` over `PixelRuns`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pasr_perception.kernels.compiled import kernel, trial


@dataclass(frozen=True)
class SparsePoses:
    """Some poses of a mesh to be compared with a crop."""

    features: np.ndarray  # [N, D] float32 of its points
    pair: np.ndarray  # [E] int32, pixel * N + point, those of one pose pixel after pixel
    weight: np.ndarray  # [E] float32
    begin: np.ndarray  # [k] int64, the first pair of each pose
    end: np.ndarray  # [k] int64, and the one after the last
    turn: np.ndarray  # [k] int64 of the crop


@kernel
def _scores(
    cells: np.ndarray,
    features: np.ndarray,
    pair: np.ndarray,
    weight: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    turn: np.ndarray,
    out: np.ndarray,
) -> None:
    points, channels = features.shape
    for i in range(begin.shape[0]):
        score = np.float32(0)
        pixel, first = 0, 0  # following the pairs from pixel to pixel costs less than a division for each
        for e in range(begin[i], end[i]):
            while pair[e] >= first + points:
                pixel += 1
                first += points
            seen, mine = cells[turn[i], pixel], features[pair[e] - first]
            product = np.float32(0)
            for d in range(channels):
                product += seen[d] * mine[d]
            score += weight[e] * product
        out[i] = score


def scores(cells: np.ndarray, poses: SparsePoses, out: np.ndarray) -> None:
    """Write eq. 8 of every pose to out [k] float32; cells [T, g*g, D] float32 of the crop's turns."""
    p = poses
    _scores(cells, p.features, p.pair, p.weight, p.begin, p.end, p.turn, out)


@trial
def _on_one_pair() -> None:
    one, none = np.ones(1, np.int64), np.zeros(1, np.int64)
    feature = np.ones((1, 8), np.float32)
    weight = np.ones(1, np.float32)
    scores(feature[None], SparsePoses(feature, np.zeros(1, np.int32), weight, none, one, none), np.empty(1, np.float32))
