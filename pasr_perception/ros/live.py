"""Changing parameters while the node runs: checked before, applied after, and refused with the reason where neither helps.

The two steps are kept apart as in Nav2: a check must not change anything, since another callback may still refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from pasr_perception.config import ConfigError, PasrConfig
from pasr_perception.ros import params
from pasr_perception.ros.params import NodeConfig

UNCONFIGURED = "unconfigured"
# what can change between two frames; everything else is built into what `configure` makes
LIVE = {
    *("library", "autostart", "rectified", "sync_slop_s", "sync_queue", "tf_prefix", "marker_lifetime_s"),
    *("complaint_period_s", "input_patience_s", "rank.hypotheses"),
}
LIVE_GROUPS = ("refine.", "reframe.", "track.")


def is_live(name: str) -> bool:
    """Whether a parameter of this name takes effect while the node is configured."""
    return name in LIVE or name.startswith(LIVE_GROUPS)


class LiveParameters:
    """Watches over a node's parameters. `state` is its lifecycle state, `apply` gets the whole new configuration."""

    def __init__(self, node: Node, state: Callable[[], str], apply: Callable[[NodeConfig, PasrConfig], None]) -> None:
        self._node, self._state, self._apply_config = node, state, apply
        self._known = {p.name for p in params.declared_parameters()}
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._apply)

    def _check(self, changed: Sequence[Parameter]) -> SetParametersResult:
        mine = {p.name: p.value for p in changed if p.name in self._known}
        try:
            params.read(self._node, mine)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        fixed = [n for n, v in mine.items() if not is_live(n) and v != self._node.get_parameter(n).value]
        if fixed and self._state() != UNCONFIGURED:
            name = self._node.get_fully_qualified_name()
            reason = (
                f"{', '.join(fixed)}: expected the node to be {UNCONFIGURED}, got {self._state()}; first `ros2 lifecycle "
                f"set {name} deactivate` and `… cleanup`, afterwards `… configure` and `… activate`"
            )
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _apply(self, changed: Sequence[Parameter]) -> None:
        mine = [p for p in changed if p.name in self._known]
        if mine:
            self._apply_config(*params.read(self._node, {}))
            said = ", ".join(f"{p.name} = {p.value!r}" for p in mine)
            self._node.get_logger().info(f"parameters changed: {said}")
