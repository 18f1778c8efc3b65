"""How much memory searching a library takes, and a refusal before it runs out (docs/performance.md states the formula).

    bank      poses * (rank + 12) + meshes * 48 * (128 + 8) + (D * channels + blocks^2 * channels * rank) * 4
    resident  at most coarse.resident_mb, or all meshes where they take less
    scoring   2^17 templates * turns * 8, for every crop of a frame

A bank on the CPU is mapped: its pages are the file's, shared between processes and given back when memory is short, so there
only the rest counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from pasr_perception.bank import Bank
from pasr_perception.library.store import LibraryError
from pasr_perception.shortlist import TEMPLATES_PER_BLOCK

MEMINFO = Path("/proc/meminfo")
GIB = 2**30
CROPS = 8  # of one frame that room is kept for
LOADED_OVER_STORED = (
    2.0  # at most: on a GPU features that are stored in half precision are held in single, and cells besides
)


@dataclass(frozen=True)
class Needs:
    """Bytes that searching a library takes at most."""

    bank: int  # copied to the device; 0 where it is mapped
    resident: int
    scoring: int

    @property
    def total(self) -> int:
        return self.bank + self.resident + self.scoring


def needs(bank: Bank, stored_bytes: int, turns: int, resident_limit: int, device: torch.device) -> Needs:
    """What a library takes whose meshes' tensors take `stored_bytes` on disk, crops being searched in so many turns."""
    block = min(int(bank.count.sum()), TEMPLATES_PER_BLOCK)
    return Needs(
        0 if device.type == "cpu" else bank.bytes,
        min(resident_limit, int(LOADED_OVER_STORED * stored_bytes)),
        block * turns * CROPS * 8,
    )


def free_bytes(device: torch.device) -> int | None:
    """What is free on a device; None where it cannot be found out."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "cpu" and MEMINFO.is_file():
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def check_fits(wanted: Needs, free: int | None, device: torch.device) -> None:
    """Raise LibraryError, which says what to do, unless `free` bytes are enough."""
    if free is None or wanted.total <= free:
        return
    parts = f"bank {_gib(wanted.bank)}, resident meshes {_gib(wanted.resident)}, scoring {_gib(wanted.scoring)}"
    raise LibraryError(
        f"searching this library takes up to {_gib(wanted.total)} on {device} ({parts}), and {_gib(free)} is free: "
        "lower coarse.resident_mb, free memory, use encoder.device=cpu (where the bank is mapped), or split the library"
    )


def _gib(count: int) -> str:
    return f"{count / GIB:.2f} GiB"
