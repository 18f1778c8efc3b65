"""Surface samples: on the surface, by area, in a frame where every point has length 1 at most."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pasr_perception.library.sample import normalisation, normalised, sample_surface

EXTENTS = np.array([0.2, 0.3, 0.6])


def box() -> trimesh.Trimesh:
    return trimesh.creation.box(EXTENTS).apply_translation((1.0, -2.0, 0.5))


def test_the_frame_is_the_bounding_boxs_middle_and_half_its_diagonal() -> None:
    frame = normalisation(box())
    np.testing.assert_allclose(frame.center, [1.0, -2.0, 0.5], atol=1e-12)
    assert frame.scale == pytest.approx(0.35)  # |(0.2, 0.3, 0.6)| / 2


def test_a_normalised_mesh_reaches_length_one_and_keeps_the_original() -> None:
    mesh = box()
    mesh.visual.face_colors = [10, 20, 30, 255]
    frame, unit = normalisation(mesh), normalised(mesh)
    np.testing.assert_allclose(np.linalg.norm(unit.vertices, axis=1), 1.0)
    np.testing.assert_allclose(unit.vertices * frame.scale + frame.center, mesh.vertices, atol=1e-12)
    np.testing.assert_allclose(mesh.bounds.mean(0), [1.0, -2.0, 0.5])
    assert unit.visual.face_colors[3].tolist() == [10, 20, 30, 255]


def test_samples_lie_on_the_surface_with_its_normals() -> None:
    samples = sample_surface(normalised(box()), 500, seed=1)
    assert samples.points.shape == samples.normals.shape == (500, 3)
    assert samples.points.dtype == samples.normals.dtype == np.float32
    side = np.abs(samples.normals).argmax(1)
    at = samples.points[np.arange(500), side]
    np.testing.assert_allclose(at, samples.normals[np.arange(500), side] * EXTENTS[side] / 2 / 0.35, atol=1e-6)
    assert (np.abs(samples.points) <= EXTENTS / 2 / 0.35 + 1e-6).all()


def test_sides_get_samples_by_their_area() -> None:
    samples = sample_surface(normalised(box()), 20_000, seed=2)
    share = np.bincount(np.abs(samples.normals).argmax(1), minlength=3) / 20_000
    area = np.array([0.3 * 0.6, 0.2 * 0.6, 0.2 * 0.3])
    np.testing.assert_allclose(share, area / area.sum(), atol=0.012)  # three standard deviations


def test_the_seed_decides() -> None:
    mesh = normalised(box())
    first, again, other = (sample_surface(mesh, 50, seed).points for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
