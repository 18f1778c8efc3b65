"""The ROS 2 side: the only package here that imports ROS. `node.py` is the node, `__main__.py` runs it."""
