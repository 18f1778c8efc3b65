"""What the node says: throttled complaints, and the library's `logging` records in the ROS log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

MAX_KINDS = 1000  # kinds of complaint remembered for throttling


class Complaints:
    """Logs one warning per kind and period; the next one says how many were held back meanwhile. Thread-safe."""

    def __init__(self, logger: Any, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._period_s = period_s
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
            if now - when < self._period_s:
                self._logged[kind] = (when, held_back + 1)
                return
            if len(self._logged) >= MAX_KINDS:
                self._logged.clear()
            self._logged[kind] = (now, 0)
        again = f" ({held_back} more like this since the last message)" if held_back else ""
        self._logger.warning(text + again + details)


class RosLogHandler(logging.Handler):
    """Passes records of `logging` on to a ROS logger."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        # one line per severity: rclpy ties each calling line to the first severity it used
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)
