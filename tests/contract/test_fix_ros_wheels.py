"""scripts/fix_ros_wheels.py repoints exactly the folders of the wheels' build machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fix_ros_wheels.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("fix_ros_wheels", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('set(d "/opt/python/cp311-cp311/include/python3.11")', 'set(d "/py")'),
        ('"/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include;${x}"', '"/np;${x}"'),
        ("/opt/python/cp312-cp312/lib/python3.12/site-packages/numpy/core/include", "/np"),
        ("/opt/python/cp311-cp311/bin/python", "/opt/python/cp311-cp311/bin/python"),
        ("/usr/include/python3.11", "/usr/include/python3.11"),
    ],
)
def test_repoint(script, before, after):
    assert script.repoint(before, "/py", "/np") == after
    assert script.repoint(after, "/py", "/np") == after


def test_backslashes_in_a_path_are_kept(script):
    assert script.repoint("/opt/python/cp311-cp311/include/python3.11", r"/a\1b", "/np") == r"/a\1b"
