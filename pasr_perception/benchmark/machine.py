"""The facts of the machine that a timing needs to be read with."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

import pasr_perception

CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16")
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """Hardware and software of one run."""

    cpu: str
    cores: int  # that this process may use
    flags: tuple[str, ...]  # of CPU_FLAGS, those that the processor has
    memory_gb: float
    gpu: str  # "" = none in use
    torch: str
    torch_cpu_capability: str  # what torch's own kernels are built for
    threads: int  # torch's, within one operator
    pytorch3d: str  # "" = not importable
    python: str
    system: str
    version: str  # of this package
    load_before: float  # load average of the last minute when the run began; above 0 others were at work


def machine_facts(device: torch.device) -> Machine:
    """Facts of this machine; what cannot be found out is empty."""
    text = CPUINFO.read_text() if CPUINFO.is_file() else ""
    fields = dict(line.split(":", 1) for line in text.split("\n\n", 1)[0].splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(found.get("flags", "").split())
    return Machine(
        cpu=found.get("model name", platform.processor()),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        flags=tuple(f for f in CPU_FLAGS if f in flags),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        torch=str(torch.__version__),
        torch_cpu_capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        pytorch3d=_pytorch3d_version(),
        python=platform.python_version(),
        system=platform.platform(),
        version=pasr_perception.__version__,
        load_before=round(os.getloadavg()[0], 2),
    )


def _pytorch3d_version() -> str:
    try:
        import pytorch3d
    except ImportError:
        return ""
    return str(getattr(pytorch3d, "__version__", "unknown"))
