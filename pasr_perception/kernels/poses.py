"""Eq. 8 of chosen poses from their sparse weights. Twin: `templates.score_poses` over `PixelRuns`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pasr_perception.kernels.compiled import kernel, number, trial


@dataclass(frozen=True)
class SparseWeights:
    """A mesh's poses as what is to be compared with crops."""

    features: np.ndarray  # [N, D] of its points, `as_numbers`
    pair: np.ndarray  # [E] int32, pixel * N + point, those of one pose pixel after pixel
    weight: np.ndarray  # [E] float32
    bound: np.ndarray  # [P + 1] int64, the first pair of each pose, and the one after the last


@kernel
def _scores(
    cells: np.ndarray,
    features: np.ndarray,
    pair: np.ndarray,
    weight: np.ndarray,
    bound: np.ndarray,
    turn: np.ndarray,
    pose: np.ndarray,
    out: np.ndarray,
) -> None:
    points, channels = features.shape
    for i in range(pose.shape[0]):
        score = np.float32(0)
        pixel, first, e, end = 0, 0, bound[pose[i]], bound[pose[i] + 1]
        while e < end:
            while (
                pair[e] >= first + points
            ):  # following the pairs from pixel to pixel costs less than a division for each
                pixel += 1
                first += points
            seen, last = cells[turn[i], pixel], e
            while last < end and pair[last] < first + points:
                last += 1
            while e + 4 <= last:  # of one pixel: four share what reading the cell and adding up a product cost
                a, b = features[pair[e] - first], features[pair[e + 1] - first]
                c, d = features[pair[e + 2] - first], features[pair[e + 3] - first]
                of_a, of_b, of_c, of_d = weight[e], weight[e + 1], weight[e + 2], weight[e + 3]
                product = np.float32(0)
                for k in range(channels):
                    product += (
                        (of_a * number(a[k]) + of_b * number(b[k])) + (of_c * number(c[k]) + of_d * number(d[k]))
                    ) * seen[k]
                score += product
                e += 4
            while e < last:
                mine, product = features[pair[e] - first], np.float32(0)
                for k in range(channels):
                    product += seen[k] * number(mine[k])
                score += weight[e] * product
                e += 1
        out[i] = score


def scores(cells: np.ndarray, mesh: SparseWeights, turn: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Eq. 8 [k] float32 of poses [k] int64 for one crop in turns [k] int64: cells [T, g*g, D] float32 of all of its turns."""
    out = np.empty(len(pose), np.float32)
    _scores(cells, mesh.features, mesh.pair, mesh.weight, mesh.bound, turn, pose, out)
    return out


@trial
def _on_one_pair() -> None:
    none, feature = np.zeros(1, np.int64), np.ones((1, 8), np.float32)
    for features in (feature, feature.astype(np.float16).view(np.uint16)):  # the leading channels, and all
        mesh = SparseWeights(features, np.zeros(1, np.int32), np.ones(1, np.float32), np.arange(2))
        scores(feature[None], mesh, none, none)
