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
        pixel, first, e = 0, 0, begin[i]
        while e < end[i]:
            while (
                pair[e] >= first + points
            ):  # following the pairs from pixel to pixel costs less than a division for each
                pixel += 1
                first += points
            seen, last = cells[turn[i], pixel], e
            while last < end[i] and pair[last] < first + points:
                last += 1
            while e + 4 <= last:  # of one pixel: four share what reading the cell and adding up a product cost
                a, b = features[pair[e] - first], features[pair[e + 1] - first]
                c, d = features[pair[e + 2] - first], features[pair[e + 3] - first]
                of_a, of_b, of_c, of_d = weight[e], weight[e + 1], weight[e + 2], weight[e + 3]
                product = np.float32(0)
                for k in range(channels):
                    product += ((of_a * a[k] + of_b * b[k]) + (of_c * c[k] + of_d * d[k])) * seen[k]
                score += product
                e += 4
            while e < last:
                mine, product = features[pair[e] - first], np.float32(0)
                for k in range(channels):
                    product += seen[k] * mine[k]
                score += weight[e] * product
                e += 1
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
