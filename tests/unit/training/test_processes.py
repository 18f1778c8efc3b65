"""Two processes under torchrun's variables: gradients are shared, so both end with the weights of one of twice the batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pasr_perception.training.processes import joined_processes

SCRIPT = """
import sys, torch
from torch import nn
from pasr_perception.training.processes import joined_processes
torch.set_num_threads(1)

def gradient(processes):
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    x = torch.arange(12.0).view(4, 3)[processes.rank * 2 :][:2]
    shared = processes.shared(module)  # kept: what averages the gradients lives as long as it does
    shared(x).square().mean().backward()
    return module.weight.grad[0].tolist()

with joined_processes(torch.device("cpu")) as processes:
    values = gradient(processes)
    with open(f"{sys.argv[1]}/{processes.rank}", "w") as out:
        out.write(f"{processes.leads} " + " ".join(f"{v:.4f}" for v in values))
"""


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_processes(torch.device("cpu")) as processes:
        assert (processes.rank, processes.count, processes.leads) == (0, 1, True)
        module = torch.nn.Linear(2, 2)
        assert processes.shared(module) is module
        processes.wait()


@pytest.mark.slow
def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plain = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)], env=plain | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=400) for process in started] == [0, 0]
    first, second = ((tmp_path / str(rank)).read_text().split() for rank in (0, 1))
    assert (first[0], second[0]) == ("True", "False")
    assert first[1:] == second[1:]
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 1)
    module(torch.arange(12.0).view(4, 3)).square().mean().backward()
    assert [float(v) for v in first[1:]] == pytest.approx(module.weight.grad[0].tolist(), rel=1e-3)
