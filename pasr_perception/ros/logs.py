"""What the node says: throttled complaints, and the library's `logging` records in the ROS log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

MAX_KINDS = 1000  # kinds of complaint remembered for throttling


class Complaints:
    """Logs one warning per kind and period; the next one says how many were held back meanwhile. Thread-safe."""

    def __init__(self, logger: Any, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self.period_s = period_s
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: dict[str, tuple[float, int]] = {}  # kind -> when it was last logged, how many held back since
        self.total = 0
        self.last = ""

    def complain(self, kind: str, text: str, details: str = "") -> None:
        """Log `text` and `details` unless something of this `kind` was logged within the period."""
        with self._lock:
            self.total += 1
            self.last = text
            now = self._clock()
            when, held_back = self._logged.get(kind, (-float("inf"), 0))
            if now - when < self.period_s:
                self._logged[kind] = (when, held_back + 1)
                return
            if len(self._logged) >= MAX_KINDS:
                self._logged.clear()
            self._logged[kind] = (now, 0)
        again = f" ({held_back} more like this since the last message)" if held_back else ""
        self._logger.warning(text + again + details)


_listener: ContextVar[Any] = ContextVar("listener", default=None)


class RosLogHandler(logging.Handler):
    """Passes records of `logging` on to the ROS logger that the recording thread speaks for, if any."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        logger = _listener.get()
        if logger is None:
            return
        text = self.format(record)
        # one line per severity: rclpy ties each calling line to the first severity it used
        if record.levelno >= logging.ERROR:
            logger.error(text)
        elif record.levelno >= logging.WARNING:
            logger.warning(text)
        else:
            logger.info(text)


@contextmanager
def speaking_for(logger: Any) -> Iterator[None]:
    """What the package logs in this thread goes to the ROS logger `logger`; several nodes in a process stay apart."""
    package = logging.getLogger("pasr_perception")
    if not any(isinstance(handler, RosLogHandler) for handler in package.handlers):
        package.addHandler(RosLogHandler())
        package.setLevel(logging.INFO)
    before = _listener.set(logger)
    try:
        yield
    finally:
        _listener.reset(before)
