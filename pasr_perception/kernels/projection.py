"""A few rows times a tall matrix of halves, which is read once. Twin: the product that `bank.Basis.project` is on CUDA."""

from __future__ import annotations

import numpy as np

from pasr_perception.kernels.compiled import kernel, number, trial
from pasr_perception.kernels.cores import on_all_cores

ROWS_AT_A_TIME = 512  # of the matrix; a fraction of a millisecond


@kernel
def _product(left: np.ndarray, matrix: np.ndarray, first: int, last: int, out: np.ndarray) -> None:
    """What the matrix' rows first to last - 1 add, to out [a, r]."""
    out[:] = 0
    for i in range(first, last):
        row = matrix[i]
        for a in range(left.shape[0]):
            mine, sums = left[a, i], out[a]
            for k in range(row.shape[0]):
                sums[k] += mine * number(row[k])


def product(left: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """left [a, n] float32 times matrix [n, r] `as_numbers`: [a, r] float32."""
    pieces = -(-len(matrix) // ROWS_AT_A_TIME)
    parts = np.empty((pieces, len(left), matrix.shape[1]), np.float32)

    def piece(number: int) -> None:
        first = number * ROWS_AT_A_TIME
        _product(left, matrix, first, min(first + ROWS_AT_A_TIME, len(matrix)), parts[number])

    on_all_cores(piece, pieces)
    return parts.sum(0)


@trial
def _on_one_row() -> None:
    product(np.ones((1, 2), np.float32), np.ones((2, 16), np.float16).view(np.uint16))
