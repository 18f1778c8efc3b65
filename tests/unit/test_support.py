"""Support: hand-made tables with things on them, and the plane of the others against a slow twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pasr_perception.config import ConfigError, SupportConfig
from pasr_perception.support import (
    STRANGE,
    Standing,
    by_the_others,
    fitted,
    roughness,
    starts,
    supported,
)

CONFIG = SupportConfig()
TABLE = np.array([0.1, 0.9, 0.6])  # n of n . p = 1: below and before the camera, 0.9 m off
HALF = 0.05  # of the cubes that stand on it, metres


def on_the_table(x: float, z: float) -> np.ndarray:
    """Corners [8, 3] of a cube that stands on the table near the point (x, ., z) of it."""
    up = -TABLE / np.linalg.norm(TABLE)
    across = np.cross(up, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(up, across), up])
    foot = np.array([x, (1 - TABLE[0] * x - TABLE[2] * z) / TABLE[1], z])
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * HALF
    return foot + HALF * up + corners @ axes


def standing(outlines: list[np.ndarray], share: list[float] | None = None, of: list[int] | None = None) -> Standing:
    shares = np.full(len(outlines), 0.9) if share is None else np.array(share)
    objects = np.arange(len(outlines)) if of is None else np.array(of)
    outline = np.stack(outlines)
    return Standing(outline, outline.mean(1), shares, objects, int(objects.max()) + 1)


PLACES = [(-0.3, 0.7), (0.2, 0.6), (0.0, 0.9), (0.35, 1.0), (-0.25, 1.1), (0.1, 1.2), (-0.05, 0.65), (0.3, 0.75)]
CUBES = [on_the_table(x, z) for x, z in PLACES]
MANY = [on_the_table(x, z) for x in (-0.4, -0.15, 0.1, 0.35) for z in (0.6, 0.8, 1.0, 1.2)]


def test_a_plane_is_found_again() -> None:
    table = standing(CUBES)
    np.testing.assert_allclose(fitted(table, starts(table, CONFIG)[0], CONFIG).normal, TABLE, rtol=2e-3)
    support = supported(table, CONFIG)
    assert support is not None
    assert np.abs(support.off).max() < 0.01
    np.testing.assert_allclose(support.distance, 1, atol=0.01)
    np.testing.assert_allclose(support.evidence, -np.log(STRANGE), atol=0.02)


def test_a_few_that_stand_elsewhere_do_not_move_it() -> None:
    shelf = [0.6 * CUBES[2], 1.7 * CUBES[5]]
    support = supported(standing([*CUBES[:2], *CUBES[3:5], *CUBES[6:], *shelf]), CONFIG)
    assert support is not None
    assert np.abs(support.off[:6]).max() < 0.02
    np.testing.assert_allclose(support.distance[:6], 1, atol=0.02)
    np.testing.assert_allclose(support.distance[6:], 1, atol=0.05)  # strays stay where they are
    assert support.evidence[6:].max() < np.log(CONFIG.strays / STRANGE) + 0.1


def test_the_mesh_of_the_right_size_stands_there() -> None:
    """Every object may be a small cube nearby or, as likely, one twice as large and as far."""
    outlines = [scale * cube for cube in CUBES for scale in (1.0, 2.0)]
    objects = [k for k in range(len(CUBES)) for _ in range(2)]
    share = [0.45] * len(outlines)
    for _ in range(2):
        share[objects.index(1)] = 0.8  # one object is sure
        share[objects.index(1) + 1] = 0.1
    share[objects.index(4)] = 0.3  # and one leans to the wrong one
    share[objects.index(4) + 1] = 0.6
    support = supported(standing(outlines, share, objects), CONFIG)
    assert support is not None
    near, far = support.evidence[::2], support.evidence[1::2]
    assert near.min() > 0.4
    assert far.max() < -0.5
    assert (near - far > np.log(2)).all()  # more than the one that leans the wrong way asks for


def test_distances_are_settled_together() -> None:
    rng = np.random.default_rng(3)
    for scale in (1.0, 0.2, 8.0):  # a hand's breadth or a hall: all is relative
        wrong = 1 + rng.uniform(-0.1, 0.1, size=len(MANY))
        support = supported(standing([scale * w * cube for w, cube in zip(wrong, MANY, strict=True)]), CONFIG)
        assert support is not None
        after = wrong * support.distance - 1
        assert np.sqrt((after**2).mean()) < 0.85 * np.sqrt(((wrong - 1) ** 2).mean())


def test_what_looks_too_far_is_believed_less_than_what_looks_too_near() -> None:
    def moved(factor: float) -> float:
        support = supported(standing([*MANY[:5], factor * MANY[5], *MANY[6:]]), CONFIG)
        assert support is not None
        return float(factor * support.distance[5] - 1)

    assert abs(moved(1.15)) < 0.04  # a part of it may be hidden
    assert abs(moved(0.85)) > 0.07  # no box is by so much too large: it stands elsewhere


def test_without_a_common_surface_little_is_said() -> None:
    rng = np.random.default_rng(0)
    scattered = standing([factor * cube for factor, cube in zip(rng.uniform(0.5, 2.0, 16), MANY, strict=True)])
    support = supported(scattered, CONFIG)
    flat = supported(standing(MANY), CONFIG)
    assert support is not None
    assert flat is not None
    assert np.median(support.noise) > 3 * np.median(flat.noise)
    assert np.median(np.abs(support.distance - 1)) < 0.03


def test_objects_in_a_row_say_little_of_what_is_beside_it() -> None:
    row = [on_the_table(0.15 * i - 0.3, 0.8) for i in range(5)]
    beside = on_the_table(0.0, 1.3)
    support = supported(standing([*row, 1.2 * beside]), CONFIG)
    assert support is None or support.noise[-1] > 0.1
    exactly = np.linspace(0.8, 1.6, 4)[:, None, None] * np.ones((1, 2, 3)) * [0.1, 0.2, 1.0]  # one line of sight
    assert supported(standing(list(exactly)), CONFIG) is None


def test_the_plane_of_the_others_is_that_of_a_fit_without_the_object() -> None:
    rng = np.random.default_rng(5)
    outlines = [(1 + 0.05 * rng.normal()) * s * cube for cube in CUBES[:6] for s in (1.0, 1.4)]
    objects = [k for k in range(6) for _ in range(2)]
    table = standing(outlines, [0.5, 0.3] * 6, objects)
    fit = fitted(table, TABLE, CONFIG)
    off, variance = by_the_others(table, fit)
    for k in range(6):
        others = table.of != k
        a, w = fit.contact[others], fit.weight[others]
        information = np.einsum("h,hi,hj->ij", w, a, a) + table.slack
        normal = np.linalg.lstsq(information, (w[:, None] * a).sum(0), rcond=None)[0]
        own = fit.contact[~others]
        np.testing.assert_allclose(off[~others], own @ normal - 1, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(variance[~others], np.diag(own @ np.linalg.inv(information) @ own.T), rtol=1e-6)


def test_roughness_is_what_boxes_do_not_explain() -> None:
    table = standing(CUBES)
    variance = np.full(8, 0.1**2)
    calm = np.array([0.1, -0.1, 0.05, -0.05, 0.02, -0.02, 0.08, -0.08])
    assert roughness(table, calm, variance, 0.2) == 0
    rough = 0.3 * np.sign(calm)
    assert roughness(table, rough, variance, 0.2) == pytest.approx((1.4826 * 3) ** 2 * 0.01 - 0.01, rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"least": 3}, r"support\.least: expected at least 4"),
        ({"near": 0.0}, r"support\.near: expected more than 0, at most 1, got 0"),
        ({"far": 2.0}, r"support\.far: expected"),
        ({"contact": -0.1}, r"support\.contact: expected"),
        ({"strays": 1.0}, r"support\.strays: expected between 0 and 1, got 1"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SupportConfig(**wrong)
