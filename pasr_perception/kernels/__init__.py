"""Loops for the CPU, compiled by numba: what torch's operators do in many passes over memory, in one.

Each file holds one of them and says which torch function is its twin: CUDA takes that one, and the tests hold the loop against it.
Arrays go in and out; whoever calls has tensors.
"""

from pasr_perception.kernels.compiled import prepare

__all__ = ["prepare"]
