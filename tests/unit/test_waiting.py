"""Torch's threads are told how to wait before torch is there, and only where nobody has said it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pasr_perception.waiting import SPINS, wait_briefly


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == str(SPINS)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


@pytest.mark.parametrize("module", ["pasr_perception.cli", "pasr_perception.ros.__main__"])
def test_torch_comes_later_than_the_command_or_the_node(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
