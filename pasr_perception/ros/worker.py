"""One worker thread behind a mailbox that holds only the newest job, so that callbacks never wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

HAND_OVER_S = 0.005  # what `submit` lets an idle worker have to take a job, which takes it microseconds

Job = TypeVar("Job")
logger = logging.getLogger(__name__)


class LatestWorker(Generic[Job]):
    """Runs `work(job)` for the newest job in its own thread.

    An exception of `work` goes to `on_error(exception, job)`, called in this thread too, and the next job is taken.
    The thread lives within the context `around()`. An idle worker goes first: the submitting thread would otherwise keep
    Python to itself for whatever it does next. `patience(job)` says for how many seconds a job waits for a newer one
    before it is begun; it waits once.
    """

    def __init__(
        self,
        work: Callable[[Job], None],
        on_error: Callable[[Exception, Job], None],
        name: str = "worker",
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
        patience: Callable[[Job], float] = lambda job: 0.0,
    ) -> None:
        self._work = work
        self._on_error = on_error
        self._around = around
        self._patience = patience
        lock = threading.Lock()
        self._changed, self._taken = threading.Condition(lock), threading.Condition(lock)
        self._mailbox: Job | None = None
        self._idle = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> bool:
        """Leave a job without waiting for it; return True if it pushed out one that had not been started."""
        with self._changed:
            replaced = self._mailbox is not None
            if not self._stopping:
                self._mailbox = job
                self._changed.notify()
                if self._idle:
                    self._taken.wait(HAND_OVER_S)
            return replaced

    def clear(self) -> None:
        """Forget the job that waits, if any."""
        with self._changed:
            self._mailbox = None

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Finish the job under way, drop the waiting one and end the thread; False if it is still busy after that."""
        with self._changed:
            self._stopping = True
            self._mailbox = None
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with self._around():
            self._serve()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._idle = True
                self._changed.wait_for(lambda: self._stopping or self._mailbox is not None)
                self._idle = False
                self._taken.notify_all()
                self._await_newer()
                if self._stopping:
                    return
                job, self._mailbox = self._mailbox, None
            if job is None:  # cleared while it waited
                continue
            try:
                self._work(job)
            except Exception as error:  # whatever it is, the next frame deserves its chance
                self._report(error, job)
            del job  # an image must not stay in memory while waiting for the next one

    def _await_newer(self) -> None:
        job = self._mailbox
        patience_s = 0.0 if job is None or self._stopping else self._patience(job)
        if patience_s > 0:
            self._changed.wait_for(lambda: self._stopping or self._mailbox is not job, patience_s)

    def _report(self, error: Exception, job: Job) -> None:
        try:
            self._on_error(error, job)
        except Exception:
            logger.exception("the error handler failed on %r", error)
