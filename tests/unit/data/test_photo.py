from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pasr_perception.data.photo import GREY, PhotoEffects, photograph, random_effects

FLAT = np.full((64, 80, 3), 3.0, np.float32)


def rng():
    return np.random.default_rng(0)


def linear(image):
    return (image / 255.0) ** 2.2


def test_without_effects_the_mean_is_exposed_to_middle_grey():
    np.testing.assert_allclose(linear(photograph(FLAT, PhotoEffects(), rng())), GREY, atol=0.005)


def test_a_stop_doubles_the_light():
    brighter = photograph(FLAT, PhotoEffects(exposure=1.0), rng())
    np.testing.assert_allclose(linear(brighter), 2 * GREY, atol=0.01)


def test_white_balance_scales_channels():
    image = photograph(FLAT, PhotoEffects(white_balance=(1.2, 1.0, 0.8)), rng())
    mean = linear(image).mean((0, 1))
    np.testing.assert_allclose(mean / mean[1], [1.2, 1.0, 0.8], atol=0.03)


def test_vignette_darkens_the_corners_by_its_share():
    image = linear(photograph(FLAT, PhotoEffects(vignette=0.4), rng()))
    assert image[0, 0, 0] / image[32, 40, 0] == pytest.approx(0.6, abs=0.03)


def test_noise_has_the_deviation_asked_for():
    light = linear(photograph(FLAT, PhotoEffects(shot_noise=0.05, read_noise=0.01), rng()))
    assert light.std() == pytest.approx(np.sqrt(GREY * 0.05**2 + 0.01**2), rel=0.1)


def test_blur_and_motion_keep_the_light_and_spread_it():
    point = np.zeros((41, 41, 3), np.float32)
    point[20, 20] = 1.0
    sharp = PhotoEffects(exposure=-10.0)  # far below the shoulder, so that the curve changes nothing
    still = linear(photograph(point, sharp, rng()))
    for effects in (replace(sharp, blur=1.0), replace(sharp, motion=5.0)):
        moved = linear(photograph(point, effects, rng()))
        assert moved[20, 20, 0] < 0.5 * still[20, 20, 0]
        assert (moved[..., 0] > 0.001).sum() > 4


def test_highlights_are_compressed_not_clipped_and_never_wrap():
    ramp = np.linspace(0, 8, 256, dtype=np.float32)[None, :, None].repeat(4, 0).repeat(3, 2)
    image = photograph(ramp, PhotoEffects(exposure=2.0), rng())[0, :, 0].astype(int)
    assert (np.diff(image) >= 0).all()
    assert 250 < image[-1] <= 255
    assert len(np.unique(image)) > 100


def test_jpeg_changes_little_and_the_seed_decides():
    light = np.random.default_rng(1).uniform(0, 1, (64, 64, 3)).astype(np.float32)
    plain, packed = (photograph(light, PhotoEffects(blur=1.0, jpeg_quality=q), rng()) for q in (100, 80))
    assert 0 < np.abs(plain.astype(int) - packed).mean() < 6
    effects = random_effects(np.random.default_rng(5))
    assert effects == random_effects(np.random.default_rng(5)) != random_effects(np.random.default_rng(6))
    np.testing.assert_array_equal(photograph(light, effects, rng()), photograph(light, effects, rng()))
