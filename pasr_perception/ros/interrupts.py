"""Ctrl-C, and that it was what ended something."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupts:
    """Whether Ctrl-C was pressed. What it interrupts may turn the KeyboardInterrupt into another error (modules in C do)."""

    def __init__(self) -> None:
        self.came = False
        if (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):  # rclpy's handler, which comes later, calls this one
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.default_int_handler(number, frame)
