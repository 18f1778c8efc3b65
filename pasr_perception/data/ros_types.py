"""ROS message definitions without ROS: those that `rosbags` ships for Jazzy plus vision_msgs from `msg/`.

`msg/vision_msgs` is a link to the very files that rosidl builds in `ros2_ws/interfaces`, so the two cannot differ.
"""

from __future__ import annotations

import functools
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

DEFINITIONS = Path(__file__).parent / "msg"


@functools.cache
def ros_types() -> Typestore:
    """All message types this project reads and writes, e.g. `ros_types().types["vision_msgs/msg/Detection2D"]`."""
    store = get_typestore(Stores.ROS2_JAZZY)
    found = {}
    for path in sorted(DEFINITIONS.glob("*/*.msg")):
        found.update(get_types_from_msg(path.read_text(), f"{path.parent.name}/msg/{path.stem}"))
    if "vision_msgs/msg/Detection2DArray" not in found:
        raise FileNotFoundError(f"{DEFINITIONS}/vision_msgs: expected *.msg definitions, found none; reinstall")
    store.register(found)
    return store
