#!/bin/bash
# Run a command with ROS 2, the project's environment and its workspace on the path.
set -eo pipefail
source /opt/pasr/scripts/env.sh
source /opt/pasr/ros2_ws/install/setup.bash
exec "$@"
