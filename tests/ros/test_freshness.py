"""An image that has grown older than a period gives way to the next one, if that is to be had."""

from __future__ import annotations

import pytest

from pasr_perception.ros.freshness import Freshness

PERIOD, MS = 33_000_000, 1_000_000


class Camera:
    """A clock, and images that come `delay_ns` after their stamps."""

    def __init__(self, delay_ns: int = 5 * MS, images: int = 5) -> None:
        self.now = 0
        self.freshness = Freshness(lambda: self.now)
        for i in range(images):
            self.stamp = 10**9 + i * PERIOD
            self.now = self.stamp + delay_ns
            self.freshness.came(self.stamp)

    def patience_ms(self, age_ns: int) -> float:
        self.now = self.stamp + age_ns
        return self.freshness.patience_s(self.stamp) * 1e3


def test_a_fresh_image_is_begun_and_one_older_than_a_period_waits_until_the_next_is_overdue() -> None:
    camera = Camera()
    assert camera.patience_ms(32 * MS) == 0
    assert camera.patience_ms(34 * MS) == pytest.approx(33 + 5 + 16.5 - 34)
    assert camera.patience_ms(60 * MS) == 0  # the next one is lost: better an old answer than none


def test_images_that_come_late_always_are_begun_at_once() -> None:
    assert Camera(delay_ns=40 * MS).patience_ms(45 * MS) == 0


def test_without_a_known_period_and_after_a_clock_that_jumped_back_nothing_waits() -> None:
    assert Camera(images=2).patience_ms(40 * MS) == 0
    camera = Camera()
    camera.stamp -= 10**9
    camera.freshness.came(camera.stamp)
    assert camera.patience_ms(40 * MS) == 0


def test_a_lost_image_does_not_make_the_period_longer() -> None:
    camera = Camera()
    camera.stamp += 2 * PERIOD
    camera.now = camera.stamp + 5 * MS
    camera.freshness.came(camera.stamp)
    assert camera.patience_ms(34 * MS) > 0
