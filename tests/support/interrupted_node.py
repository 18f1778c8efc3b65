"""`pasr_node` whose loading turns an interrupt into another error, as modules in C do while they are imported."""

from __future__ import annotations

import sys
import time

from pasr_perception.ros import node


def open_pipeline(*_: object) -> None:
    print("double: loading", flush=True)
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        raise ImportError("a module that was interrupted") from None


if __name__ == "__main__":
    node.open_pipeline = open_pipeline
    node.rclpy.ok = lambda: True  # the thread that shuts ROS down is behind, as it may be on a busy machine
    sys.exit(node.main(sys.argv))
