"""The node's services: ~/reload_library, ~/reset_tracks, ~/enable. Each answers in words."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger


class Services:
    """Offers the services; each `Callable` does the work and returns what to say, or raises what went wrong.

    They have a callback group of their own: with a multi-threaded executor a long reload holds no message up.
    """

    def __init__(
        self,
        node: Node,
        reload_library: Callable[[], str],
        reset_tracks: Callable[[], str],
        enable: Callable[[bool], str],
    ) -> None:
        self._node = node
        group = MutuallyExclusiveCallbackGroup()

        def reload(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            return self._answer("~/reload_library", reload_library, response)

        def reset(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            return self._answer("~/reset_tracks", reset_tracks, response)

        def set_enabled(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
            return self._answer("~/enable", lambda: enable(request.data), response)

        node.create_service(Trigger, "~/reload_library", reload, callback_group=group)
        node.create_service(Trigger, "~/reset_tracks", reset, callback_group=group)
        node.create_service(SetBool, "~/enable", set_enabled, callback_group=group)

    def _answer(self, name: str, work: Callable[[], str], response):
        try:
            response.success, response.message = True, work()
            self._node.get_logger().info(f"{name}: {response.message}")
        except Exception as error:  # the caller is told, the node goes on as it was
            response.success, response.message = False, f"{type(error).__name__}: {error}"
            self._node.get_logger().error(f"{name} failed: {response.message}")
        return response
