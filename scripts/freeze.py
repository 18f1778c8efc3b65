"""Print `name==version` of everything pip installed in this environment, as the body of a constraint file.

Left out: this project, pip itself, and what no package index knows: the egg-info folders inside the ROS wheels
(`rclpy` inside `ros-rclpy` and the like) and of the interface packages that colcon built.
"""

from __future__ import annotations

import sys
from importlib.metadata import distributions

LEFT_OUT = {"pasr-perception", "pip"}


def pinned() -> list[str]:
    """Return the sorted pins; local version labels (`+cpu`) are dropped, so that any build of the version fits."""
    pins = set()
    for dist in distributions():
        name = dist.metadata["Name"].lower().replace("_", "-")
        if name not in LEFT_OUT and (dist.read_text("INSTALLER") or "").strip() == "pip":
            pins.add(f"{name}=={dist.version.split('+')[0]}")
    return sorted(pins)


if __name__ == "__main__":
    sys.stdout.write("\n".join(pinned()) + "\n")
