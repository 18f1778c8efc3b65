"""The node's services: ~/reload_library, ~/reset_tracks, ~/enable. Each answers in words.

Loading takes seconds, and callbacks must not wait: it goes on in a thread while the service's coroutine lets others run. (A
multi-threaded executor would do as well, but with rclpy it doubles the time that every image takes to get here.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

NAP_S = 0.005  # the executor comes back to a waiting coroutine at once; this long it rests there


@dataclass(frozen=True)
class Work:
    """What the services do: each returns what to say, or raises what went wrong."""

    reload_library: Callable[[], str]
    reset_tracks: Callable[[], str]
    enable: Callable[[bool], str]


class OtherCallbacks:
    """Awaited, it lets the executor run other callbacks once."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Services:
    """Offers the services, in a callback group of their own."""

    def __init__(self, node: Node, work: Work) -> None:
        self._node, self._work = node, work
        group = MutuallyExclusiveCallbackGroup()
        node.create_service(Trigger, "~/reload_library", self._reload, callback_group=group)
        node.create_service(Trigger, "~/reset_tracks", self._reset, callback_group=group)
        node.create_service(SetBool, "~/enable", self._enable, callback_group=group)

    async def _reload(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        done = threading.Event()

        def load() -> None:
            try:
                self._answer("~/reload_library", self._work.reload_library, response)
            finally:
                done.set()

        threading.Thread(target=load, name="pasr reload", daemon=True).start()
        while not done.wait(NAP_S):
            await OtherCallbacks()
        return response

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer("~/reset_tracks", self._work.reset_tracks, response)

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        return self._answer("~/enable", lambda: self._work.enable(request.data), response)

    def _answer(self, name, work, response):
        try:
            response.success, response.message = True, work()
            self._node.get_logger().info(f"{name}: {response.message}")
        except Exception as error:  # the caller is told, the node goes on as it was
            response.success, response.message = False, f"{type(error).__name__}: {error}"
            self._node.get_logger().error(f"{name} failed: {response.message}")
        return response
