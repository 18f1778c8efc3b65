"""Inner products of int8 rows, some of them chosen by index. Twin: `bank.quantised_product` as it is on CUDA."""

from __future__ import annotations

import numpy as np

from pasr_perception.kernels.compiled import kernel, trial
from pasr_perception.kernels.cores import on_all_cores

ROWS_AT_A_TIME = 2048  # a fraction of a millisecond


@kernel
def _products(left: np.ndarray, right: np.ndarray, index: np.ndarray, first: int, last: int, out: np.ndarray) -> None:
    """Those of the rows `index[first:last]`."""
    numbers = left.shape[1]
    for j in range(first, last):
        row = right[index[j]]
        for i in range(left.shape[0]):
            total = np.int32(0)
            for k in range(numbers):
                total += np.int32(left[i, k]) * np.int32(row[k])
            out[i, j] = total


def products(left: np.ndarray, right: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Inner products [a, n] int32 of rows [a, r] int8 with the first r numbers of rows `index` [n] int64 of [P, >= r] int8."""
    out = np.empty((len(left), len(index)), np.int32)
    pieces = -(-len(index) // ROWS_AT_A_TIME)

    def piece(number: int) -> None:
        first = number * ROWS_AT_A_TIME
        _products(left, right, index, first, min(first + ROWS_AT_A_TIME, len(index)), out)

    on_all_cores(piece, pieces)
    return out


@trial
def _on_one_row() -> None:
    row = np.ones((1, 16), np.int8)
    products(row, row, np.zeros(1, np.int64))
