"""Eq. 8 of chosen poses from their sparse weights. Twin: `templates.score_rendered` over `PixelRuns`.

A few poses of each of dozens of meshes are a fraction of a millisecond each. One call for each would spend as long waiting for
Python's lock between them, so a call goes through poses of many, whose arrays it finds by their addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pasr_perception.kernels.compiled import array_at, kernel, number, trial
from pasr_perception.kernels.cores import on_all_cores

PIECES = 16  # that all poses are cut into


@dataclass(frozen=True)
class SparseWeights:
    """A mesh's poses as what is to be compared with crops; contiguous arrays."""

    features: np.ndarray  # [N, D] of its points, `as_numbers`
    pair: np.ndarray  # [E] int32, pixel * N + point, those of one pose pixel after pixel
    weight: np.ndarray  # [E] float32
    bound: np.ndarray  # [P + 1] int64, the first pair of each pose, and the one after the last

    @cached_property
    def row(self) -> tuple[int, ...]:
        """What `Asked.table` says of it."""
        arrays = (self.features, self.pair, self.weight, self.bound)
        return (*(address(a) for a in arrays), len(self.features))


@dataclass(frozen=True)
class Chosen:
    """Poses of one mesh that are to be compared with one crop."""

    cells: np.ndarray  # [T, g*g, D] float32 of all turns of the crop
    mesh: SparseWeights
    turn: np.ndarray  # [k] int64
    pose: np.ndarray  # [k] int64


@dataclass(frozen=True)
class Asked:
    """The poses of several, k in all, one's after the other's; valid while those are."""

    table: np.ndarray  # [n, 6] int64: addresses of cells, features, pairs, weights and bounds, and the number of points
    shape: tuple[int, ...]  # [T, g*g, D] of all cells
    like: np.ndarray  # features of the kind that all are
    of: np.ndarray  # [k] int64 into the table
    turn: np.ndarray  # [k] int64
    pose: np.ndarray  # [k] int64

    @classmethod
    def of_each(cls, each: Sequence[Chosen]) -> Asked:
        first = each[0]
        assert all(c.cells.shape == first.cells.shape and c.cells.flags.c_contiguous for c in each)
        assert all(c.mesh.features.dtype == first.mesh.features.dtype for c in each)
        table = np.array([(address(c.cells), *c.mesh.row) for c in each], np.int64)
        of = np.repeat(np.arange(len(each)), [len(c.pose) for c in each])
        turn, pose = (
            np.concatenate(part).astype(np.int64) for part in ([c.turn for c in each], [c.pose for c in each])
        )
        return cls(table, first.cells.shape, first.mesh.features, of, turn, pose)

    def in_pieces(self, piece: Callable[[int, int], None]) -> None:
        """Call piece(first, last) for all poses, on all cores."""
        poses = -(-len(self.pose) // PIECES)
        count = -(-len(self.pose) // max(poses, 1))
        on_all_cores(lambda n: piece(n * poses, min((n + 1) * poses, len(self.pose))), count)


def address(array: np.ndarray) -> int:
    """Where a contiguous array lies in memory."""
    return int(array.__array_interface__["data"][0])


@kernel
def _scores(
    table: np.ndarray,
    shape: tuple[int, ...],
    like: np.ndarray,
    of: np.ndarray,
    turn: np.ndarray,
    pose: np.ndarray,
    first: int,
    last: int,
    out: np.ndarray,
) -> None:
    """Those from `first` to `last`."""
    channels = shape[2]
    for i in range(first, last):
        at, points = table[of[i]], table[of[i], 5]
        cells, features = array_at(at[0], shape, np.float32), array_at(at[1], (points, channels), like.dtype)
        bound = array_at(at[4], (pose[i] + 2,), np.int64)
        e, end = bound[pose[i]], bound[pose[i] + 1]
        pair, weight = array_at(at[2], (end,), np.int32), array_at(at[3], (end,), np.float32)
        score, pixel, begin = np.float32(0), 0, 0
        while e < end:
            while pair[e] >= begin + points:  # following the pairs from pixel to pixel costs less than dividing each
                pixel += 1
                begin += points
            seen, stop = cells[turn[i], pixel], e
            while stop < end and pair[stop] < begin + points:
                stop += 1
            while e + 4 <= stop:  # of one pixel: four share what reading the cell and adding up a product cost
                a, b = features[pair[e] - begin], features[pair[e + 1] - begin]
                c, d = features[pair[e + 2] - begin], features[pair[e + 3] - begin]
                of_a, of_b, of_c, of_d = weight[e], weight[e + 1], weight[e + 2], weight[e + 3]
                product = np.float32(0)
                for k in range(channels):
                    product += (
                        (of_a * number(a[k]) + of_b * number(b[k])) + (of_c * number(c[k]) + of_d * number(d[k]))
                    ) * seen[k]
                score += product
                e += 4
            while e < stop:
                mine, product = features[pair[e] - begin], np.float32(0)
                for k in range(channels):
                    product += seen[k] * number(mine[k])
                score += weight[e] * product
                e += 1
        out[i] = score


def scores(each: Sequence[Chosen]) -> list[np.ndarray]:
    """Eq. 8 [k] float32 of the poses of each."""
    asked = Asked.of_each(each)
    out = np.empty(len(asked.pose), np.float32)

    def piece(first: int, last: int) -> None:
        _scores(asked.table, asked.shape, asked.like, asked.of, asked.turn, asked.pose, first, last, out)

    asked.in_pieces(piece)
    return apart(out, each)


def apart(values: np.ndarray, each: Sequence[Chosen]) -> list[np.ndarray]:
    """What is said of all poses [k, ...], by what each chose."""
    return np.split(values, np.cumsum([len(c.pose) for c in each[:-1]]))


@trial
def _on_one_pair() -> None:
    none, feature = np.zeros(1, np.int64), np.ones((1, 8), np.float32)
    for features in (feature, feature.astype(np.float16).view(np.uint16)):  # as tests have them, and as libraries do
        mesh = SparseWeights(features, np.zeros(1, np.int32), np.ones(1, np.float32), np.arange(2))
        scores([Chosen(feature[None], mesh, none, none)])
