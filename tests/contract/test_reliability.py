"""docs/reliability.md names tests; each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs" / "reliability.md").read_text()


def defined_tests() -> set[str]:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return {n.name for f in files for n in ast.parse(f.read_text()).body if isinstance(n, ast.FunctionDef)}


def test_every_fault_has_a_test_that_exists() -> None:
    named = re.findall(r"`(test_\w+)`", TABLE)
    assert len(named) > 30
    assert set(named) <= defined_tests()


def test_every_test_of_a_fault_is_in_the_table() -> None:
    named = set(re.findall(r"`(test_\w+)`", TABLE))
    for file in ("test_faults.py", "test_signals.py"):
        tree = ast.parse((ROOT / "tests" / "ros" / file).read_text())
        assert {n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")} <= named
