"""The worker thread: newest job wins, errors are survived, the end is clean."""

from __future__ import annotations

import threading

import pytest

from pasr_perception.ros import worker as worker_module
from pasr_perception.ros.worker import LatestWorker

pytestmark = pytest.mark.ros
WAIT_S = 60.0


class Recorder:
    """Work that can be held, and fails on negative jobs."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.started = threading.Event()
        self.settled = threading.Semaphore(0)
        self.done: list[int] = []
        self.errors: list[tuple[str, int]] = []

    def work(self, job: int) -> None:
        self.started.set()
        assert self.go.wait(WAIT_S)
        if job < 0:
            raise RuntimeError(f"job {job}")
        self.done.append(job)
        self.settled.release()

    def on_error(self, error: Exception, job: int) -> None:
        self.errors.append((str(error), job))
        self.settled.release()

    def wait(self, jobs: int) -> None:
        for _ in range(jobs):
            assert self.settled.acquire(timeout=WAIT_S)


def test_the_newest_job_wins_while_one_is_under_way() -> None:
    recorder = Recorder()
    worker = LatestWorker(recorder.work, recorder.on_error)
    assert worker.submit(1) is False
    assert recorder.started.wait(WAIT_S)
    assert [worker.submit(job) for job in (2, 3, 4)] == [False, True, True]
    recorder.go.set()
    recorder.wait(2)
    assert recorder.done == [1, 4]
    assert worker.stop(WAIT_S)


def test_an_idle_worker_has_a_job_before_submit_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "HAND_OVER_S", WAIT_S)
    recorder = Recorder()
    recorder.go.set()
    worker = LatestWorker(recorder.work, recorder.on_error)
    for job in range(50):
        assert worker.submit(job) is False
        recorder.wait(1)
    recorder.go.clear()
    worker.submit(50)
    assert [worker.submit(job) for job in (51, 52)] == [
        False,
        True,
    ]  # the first was begun, and the busy worker waited for by none
    recorder.go.set()
    assert worker.stop(WAIT_S)


def test_an_error_is_reported_with_its_job_and_the_next_job_runs() -> None:
    recorder = Recorder()
    recorder.go.set()
    worker = LatestWorker(recorder.work, recorder.on_error)
    worker.submit(-7)
    recorder.wait(1)
    worker.submit(8)
    recorder.wait(1)
    assert recorder.errors == [("job -7", -7)]
    assert recorder.done == [8]
    assert worker.stop(WAIT_S)


def test_a_failing_error_handler_does_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    recorder.go.set()

    def broken(error: Exception, job: int) -> None:
        recorder.settled.release()
        raise OSError("handler")

    worker = LatestWorker(recorder.work, broken)
    worker.submit(-1)
    recorder.wait(1)
    worker.submit(2)
    recorder.wait(1)
    assert recorder.done == [2]
    assert worker.stop(WAIT_S)
    assert "the error handler failed" in caplog.text


def test_stop_finishes_the_job_under_way_and_drops_the_waiting_one() -> None:
    recorder = Recorder()
    worker = LatestWorker(recorder.work, recorder.on_error)
    worker.submit(1)
    assert recorder.started.wait(WAIT_S)
    worker.submit(2)
    assert worker.stop(timeout_s=0.01) is False  # still busy
    recorder.go.set()
    assert worker.stop(WAIT_S)
    assert worker.submit(3) is False
    assert recorder.done == [1]


def test_clear_forgets_the_waiting_job() -> None:
    recorder = Recorder()
    worker = LatestWorker(recorder.work, recorder.on_error)
    worker.submit(1)
    assert recorder.started.wait(WAIT_S)
    worker.submit(2)
    worker.clear()
    assert worker.submit(3) is False
    recorder.go.set()
    recorder.wait(2)
    assert recorder.done == [1, 3]
    assert worker.stop(WAIT_S)


class Patience:
    """Waits `seconds[job]` for a newer job and says when it was first asked."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.asked = seconds, threading.Event()

    def __call__(self, job: int) -> float:
        self.asked.set()
        return self.seconds[job]


def test_a_job_waits_for_a_newer_one_but_not_for_ever() -> None:
    recorder, patience = Recorder(), Patience({1: 3 * WAIT_S, 2: 0.01})
    recorder.go.set()
    worker = LatestWorker(recorder.work, recorder.on_error, patience=patience)
    worker.submit(1)
    assert patience.asked.wait(WAIT_S)
    assert worker.submit(2)  # takes the place of the first, and is begun though nothing newer comes
    recorder.wait(1)
    assert worker.stop(WAIT_S)
    assert recorder.done == [2]


def test_clearing_and_stopping_end_the_wait_for_a_newer_job() -> None:
    recorder, patience = Recorder(), Patience({1: 3 * WAIT_S, 2: 0.0})
    recorder.go.set()
    worker = LatestWorker(recorder.work, recorder.on_error, patience=patience)
    worker.submit(1)
    assert patience.asked.wait(WAIT_S)
    worker.clear()
    worker.submit(2)
    recorder.wait(1)
    worker.submit(1)
    assert worker.stop(WAIT_S)
    assert recorder.done == [2]
