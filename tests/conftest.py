"""Spread over processes (pytest-xdist) the tests of one file stay together, since they share what is made for it; those that
start ROS nodes are all run by one process, one after another, as they would otherwise wait for each other's turn.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        together = "ros" if "ros" in item.path.parts or item.get_closest_marker("ros") else item.path.as_posix()
        item.add_marker(pytest.mark.xdist_group(together))
