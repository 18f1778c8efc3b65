from __future__ import annotations

import numpy as np

from pasr_perception.library.atlas import MAX_ATLAS, Patch, colour_patch, pack, unwrap

SQUARE = np.array([[0, 1, 2], [0, 2, 3]])


def quad(low: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
    (u0, v0), (u1, v1) = low, high
    return np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]], dtype=float)


def quarters() -> np.ndarray:
    """A 64 x 64 picture: red, green above; blue, white below."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32] = [255, 0, 0]
    image[:32, 32:] = [0, 255, 0]
    image[32:, :32] = [0, 0, 255]
    image[32:, 32:] = 255
    return image


def look_up(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    h, w = image.shape[:2]
    return image[np.floor((1 - uv[:, 1]) * h).astype(int) % h, np.floor(uv[:, 0] * w).astype(int) % w]


def points_in(uv: np.ndarray, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.einsum("k,fkd->fd", weights, uv[faces])


def test_unwrap_moves_faces_into_the_first_tile_and_splits_shared_vertices() -> None:
    uv = np.array([[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [3.2, 0.2]])
    faces = np.array([[0, 1, 2], [3, 3, 3]])
    moved = unwrap(Patch(quarters(), uv, faces))
    assert moved.tiles == (1, 1)
    np.testing.assert_allclose(moved.uv[moved.faces[0]], uv[:3])
    np.testing.assert_allclose(moved.uv[moved.faces[1]], [[0.2, 0.2]] * 3)
    np.testing.assert_array_equal(moved.source[moved.faces], faces)


def test_unwrap_counts_the_tiles_a_face_spans() -> None:
    moved = unwrap(Patch(quarters(), quad((-1.0, 0.5), (1.5, 1.5)), SQUARE))
    assert moved.tiles == (3, 2)
    assert moved.uv.min() >= 0


def test_coordinates_just_over_one_need_no_second_tile() -> None:
    assert unwrap(Patch(quarters(), quad((0, 0), (1.00001, 1.00001)), SQUARE)).tiles == (1, 1)


def test_not_finite_coordinates_are_survived() -> None:
    uv = quad((0, 0), (1, 1))
    uv[2] = np.nan
    assert np.isfinite(pack([Patch(quarters(), uv, SQUARE)]).patches[0].uv).all()


def test_packed_textures_show_the_same_colours_as_before() -> None:
    uv = quad((-0.5, -2.0), (2.5, 1.0))  # three tiles by three, starting at a fraction
    patches = [Patch(quarters(), uv, SQUARE), colour_patch(np.array([10, 20, 30]), 4, SQUARE)]
    atlas = pack(patches)
    rng = np.random.default_rng(0)
    for _ in range(50):
        weights = rng.dirichlet(np.ones(3))
        before = points_in(uv, SQUARE, weights) % 1.0
        if (np.abs(before * 64 % 32 - 16) > 14.5).any():  # too near a colour's edge to compare
            continue
        after = points_in(atlas.patches[0].uv, atlas.patches[0].faces, weights)
        np.testing.assert_array_equal(look_up(atlas.image, after), look_up(quarters(), before))
    np.testing.assert_array_equal(look_up(atlas.image, atlas.patches[1].uv), [[10, 20, 30]] * 4)


def test_a_texture_repeated_too_often_becomes_its_mean_colour() -> None:
    atlas = pack([Patch(quarters(), quad((0, 0), (500, 500)), SQUARE)])
    np.testing.assert_allclose(look_up(atlas.image, atlas.patches[0].uv), [[127, 127, 127]] * 4, atol=1)


def test_many_large_textures_are_shrunk_to_fit() -> None:
    big = np.full((1024, 1024, 3), 200, np.uint8)
    atlas = pack([Patch(big, quad((0, 0), (1, 1)), SQUARE) for _ in range(40)])
    assert max(atlas.image.shape[:2]) <= MAX_ATLAS
    for patch in atlas.patches:
        np.testing.assert_array_equal(look_up(atlas.image, patch.uv * 0.999 + 0.0005), [[200] * 3] * 4)
