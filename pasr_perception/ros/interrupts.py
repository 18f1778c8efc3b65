"""Ctrl-C, and that it was what ended something."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deadly() -> Iterator[None]:
    """Within, Ctrl-C ends the process at once. Modules that guard their own imports swallow a KeyboardInterrupt."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # someone else's, or ignored, as a shell has it for what runs behind
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
