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
LASTING_S = 30.0  # what stays wrong is said again after so long


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

    def complain(self, kind: str, text: str, details: str = "", at_least_s: float = 0.0) -> bool:
        """Log `text` and `details` unless something of this `kind` was logged within the period, which is `at_least_s`.

        Returns whether it was logged.
        """
        with self._lock:
            self.total += 1
            self.last = text
            now = self._clock()
            when, held_back = self._logged.get(kind, (-float("inf"), 0))
            if now - when < max(self.period_s, at_least_s):
                self._logged[kind] = (when, held_back + 1)
                return False
            if len(self._logged) >= MAX_KINDS:
                self._logged.clear()
            self._logged[kind] = (now, 0)
        again = f" ({held_back} more like this since the last message)" if held_back else ""
        self._logger.warning(text + again + details)
        return True

    def over(self, text: str) -> None:
        """Log that what was complained of is over."""
        self._logger.info(text)


class LastingProblem:
    """Something that is wrong for as long as it is: logged once per cause and every LASTING_S, and once that it is over.

    One that comes and goes is logged no more often than one that stays.
    """

    def __init__(self, complaints: Complaints, over: str) -> None:
        self._complaints, self._over = complaints, over
        self._logged = False

    def now(self, cause: str, text: str) -> None:
        """What is wrong now: `cause` stays the same for as long as `text` differs in numbers only. No cause: nothing is."""
        if cause:
            self._logged |= self._complaints.complain(cause, text, at_least_s=LASTING_S)
        elif self._logged:
            self._logged = False
            self._complaints.over(self._over)


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
