"""What a bank's rows are worth to compressed crops. Twin: `bank.CompressedCrops.values_in_tensors`, as it is on CUDA."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pasr_perception.kernels.compiled import kernel, trial
from pasr_perception.kernels.cores import on_all_cores

ROWS_AT_A_TIME = 2048  # a fraction of a millisecond


class Coded(NamedTuple):
    """Compressed maps, and how wide what they show is."""

    leading: np.ndarray  # [n, r] int8
    trailing: np.ndarray  # [n, q] int8, which lie elsewhere
    step: np.ndarray  # [n] float32, of the code
    aspect: np.ndarray  # [n] float32, natural logarithm


@kernel
def _values(
    crops: Coded, rows: Coded, index: np.ndarray, weight: float, first: int, last: int, out: np.ndarray
) -> None:
    """Those of the rows `index[first:last]`.

    What numba adds up is an int64, which no processor multiplies quickly, unless each sum is said to be an int32.
    """
    costs = np.float32(weight)
    for j in range(first, last):
        leading, trailing = rows.leading[index[j]], rows.trailing[index[j]]
        for i in range(crops.step.shape[0]):
            total, mine, more = np.int32(0), crops.leading[i], crops.trailing[i]
            for k in range(mine.shape[0]):
                total = np.int32(total + np.int32(mine[k]) * np.int32(leading[k]))
            for k in range(more.shape[0]):
                total = np.int32(total + np.int32(more[k]) * np.int32(trailing[k]))
            off = abs(crops.aspect[i] - rows.aspect[index[j]])
            out[i, j] = np.float32(total) * (crops.step[i] * rows.step[index[j]]) - costs * off


def values(crops: Coded, rows: Coded, index: np.ndarray, weight: float) -> np.ndarray:
    """[a, n] float32: inner products of crops [a] with rows `index` [n] int64, less what aspects are off by.

    Rows are read as far as the crops' codes go; `weight` is the cost of aspects that differ by a factor e.
    """
    out = np.empty((len(crops.step), len(index)), np.float32)

    def piece(number: int) -> None:
        first = number * ROWS_AT_A_TIME
        _values(crops, rows, index, weight, first, min(first + ROWS_AT_A_TIME, len(index)), out)

    on_all_cores(piece, -(-len(index) // ROWS_AT_A_TIME))
    return out


@trial
def _on_one_row() -> None:
    row = Coded(*(np.ones((1, 16), np.int8),) * 2, *(np.ones(1, np.float32),) * 2)
    values(row, row, np.zeros(1, np.int64), 0.1)
