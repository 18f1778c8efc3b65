"""How threads wait: said before torch is imported, for a process that is this package's own."""

from __future__ import annotations

import os

SPINS = 20_000  # some hundredths of a millisecond


def wait_briefly() -> None:
    """Have torch's idle threads sleep soon; by themselves they keep their cores busy for milliseconds, in case more comes.

    The compiled loops between two operators (`kernels/cores.py`) want these cores. What the environment says goes before.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
