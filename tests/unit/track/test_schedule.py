"""The time budget, by a clock that the test turns."""

from __future__ import annotations

from pasr_perception.track.schedule import Budget


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def take(self, seconds: float):
        def task() -> bool:
            self.now += seconds
            return True

        return task


def test_what_is_known_not_to_fit_is_not_begun():
    clock = Clock()
    budget = Budget(0.1, 0.5, clock)
    budget.begin_frame()
    done = 0
    while budget.fits("look"):
        budget.clock("look", clock.take(0.03))
        done += 1
    assert done == 3
    assert budget.elapsed <= 0.1
    assert budget.count == {"look": 3}


def test_the_first_task_of_a_frame_is_always_done():
    clock = Clock()
    budget = Budget(0.1, 0.5, clock)
    for _ in range(3):
        budget.begin_frame()
        assert budget.fits("search")
        budget.clock("search", clock.take(0.4))


def test_searches_take_their_share_while_tracked_objects_wait():
    clock = Clock()
    budget = Budget(1.0, 0.2, clock)
    searches = looks = 0
    for _ in range(50):
        budget.begin_frame()
        while True:
            if budget.affords_search(waiting=True):
                budget.clock("search", clock.take(0.4))
                searches += 1
            elif budget.fits("look"):
                budget.clock("look", clock.take(0.05))
                looks += 1
            else:
                break
    share = searches * 0.4 / 50
    assert 0.15 < share < 0.27
    assert looks > 600
