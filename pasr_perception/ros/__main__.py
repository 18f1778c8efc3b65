"""The node as a process: `python -m pasr_perception.ros`, and the executable `pasr_node` of the ROS package."""

from __future__ import annotations

import sys

from pasr_perception.ros.interrupts import deadly
from pasr_perception.waiting import wait_briefly


def main() -> int:
    """Import the node and run it; returns the exit code."""
    wait_briefly()
    with deadly():
        from pasr_perception.ros import node
    return node.main()


if __name__ == "__main__":
    sys.exit(main())
