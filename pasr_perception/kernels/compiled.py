"""How kernels are compiled."""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.extending import intrinsic, register_jitable

logger = logging.getLogger(__name__)

Kernel = TypeVar("Kernel", bound=Callable[..., None])
Made = TypeVar("Made", bound=Callable[..., Any])
WORTH_SAYING_S = 1.0  # what takes longer was not in numba's cache

_trials: list[Callable[[], None]] = []


@intrinsic
def _number(context: Any, value: Any) -> Any:
    def of_half(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    if value == numba.types.uint16:
        return numba.types.float32(value), of_half
    return value(value), lambda _, __, ___, arguments: arguments[0]


def _number_in_python(value: Any) -> Any:
    return np.float32(value.view(np.float16)) if isinstance(value, np.uint16) else value


# in a kernel, what an element of `as_numbers` stands for
number = cast(Callable[[Any], float], _number_in_python if numba.config.DISABLE_JIT else _number)  # type: ignore[attr-defined]


@intrinsic
def _pointer(context: Any, where: Any) -> Any:
    def as_pointer(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return numba.types.voidptr(where), as_pointer


def _pointer_in_python(where: Any) -> Any:
    return ctypes.c_void_p(int(where))


_memory: Any = _pointer_in_python if numba.config.DISABLE_JIT else _pointer  # type: ignore[attr-defined]


def made_in_kernels(function: Made) -> Made:
    """A function that kernels call for what it returns; from Python it is what it says."""
    return register_jitable(function)


@made_in_kernels
def array_at(where: int, shape: tuple[int, ...], kind: Any) -> Any:
    """In a kernel, the contiguous array of a shape and dtype at an address; whoever calls the kernel keeps it alive."""
    return numba.carray(_memory(where), shape, kind)


@made_in_kernels
def floored(value: Any) -> int:
    """The largest whole number that is not above a float; in a kernel cheaper than `math.floor`, by rounding towards 0."""
    whole = int(value)
    return whole - (value < whole)


def as_numbers(values: torch.Tensor) -> np.ndarray:
    """Contiguous float32 or float16 as kernels read them by `number`: numba knows no float16 on a CPU, only its bits."""
    array = values.contiguous().numpy()
    return array.view(np.uint16) if array.dtype == np.float16 else array


def kernel(function: Kernel) -> Kernel:
    """Compile a function of arrays on its first call; sums may be taken in any order, NaN is respected."""
    return _compiled(function, {"reassoc", "contract", "nsz"})


def exact_kernel(function: Kernel) -> Kernel:
    """Like `kernel`, with every operation rounded as it is written."""
    return _compiled(function, set())


def _compiled(function: Kernel, liberties: set[str]) -> Kernel:
    """Run without Python's lock; what was compiled is kept beside the file or in numba's cache, whichever may be written."""
    try:
        return cast(Kernel, numba.njit(nogil=True, cache=True, fastmath=liberties)(function))
    except RuntimeError as error:
        logger.warning(
            "kernels are compiled at every start (%s); set NUMBA_CACHE_DIR to a folder to keep them in", error
        )
        return cast(Kernel, numba.njit(nogil=True, fastmath=liberties)(function))


def trial(function: Callable[[], None]) -> Callable[[], None]:
    """A call of a kernel with arrays of the kinds that it is given later, for `prepare`."""
    _trials.append(function)
    return function


def prepare() -> None:
    """Compile all kernels now, which takes half a minute on a machine that has not done it before: no frame shall wait for it."""
    began, said = time.perf_counter(), False
    for function in _trials:
        if not said and time.perf_counter() - began > WORTH_SAYING_S:
            said = True
            logger.info("compiling the CPU's kernels, which takes half a minute once on a machine")
        try:
            function()
        except OSError as error:  # of writing numba's cache; what was compiled is there
            logger.warning("compiled kernels cannot be kept (%s); every start compiles them", error)
            function()
    took = time.perf_counter() - began
    if took > WORTH_SAYING_S:
        logger.info("compiled the CPU's kernels in %.0f s; numba keeps them for the next start", took)
