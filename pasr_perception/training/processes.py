"""One process, or several started by torchrun: who is who, on which device, with whose gradients."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(days=7)  # the leading process may have many meshes to observe first


@dataclass(frozen=True)
class Processes:
    """This process among its peers."""

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    def shared(self, module: nn.Module) -> nn.Module:
        """The module on this process's device, its gradients averaged over all processes."""
        module = module.to(self.device)
        return DistributedDataParallel(module) if self.count > 1 else module

    def wait(self) -> None:
        """Until all have come this far."""
        if self.count > 1:
            distributed.barrier()


@contextlib.contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started together, a GPU each where there are GPUs; this one alone without torchrun."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count, device)
        distributed.barrier()  # the first to leave would break the others' connections
    finally:
        distributed.destroy_process_group()
