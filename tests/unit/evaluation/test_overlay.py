"""Outlines land where the projected mesh ends, distortion included; drawing never fails on odd input."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import trimesh

from pasr_perception.evaluation import overlay
from pasr_perception.evaluation.overlay import draw_overlay, object_colour, silhouette_contours
from pasr_perception.types import Camera, Detection, Hypothesis, ObjectEstimate

K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
CAMERA = Camera(640, 480, K)


def at(x: float = 0, y: float = 0, z: float = 1) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = (x, y, z)
    return T


def pixels(contours: list[np.ndarray]) -> np.ndarray:
    """Continuous pixels [N, 2] of contours in OpenCV's fixed point."""
    return np.concatenate(contours).reshape(-1, 2) / (1 << overlay.FIXED_POINT_BITS) + 0.5


def estimate(
    mesh_id: str, T: np.ndarray, box: tuple[float, ...] = (270, 190, 370, 290), name: str = "7"
) -> ObjectEstimate:
    return ObjectEstimate(Detection(np.array(box, float), id=name), (Hypothesis(mesh_id, "c", 0.8, 0.5, T),))


def test_outline_of_a_plate_is_its_projection_to_a_pixel() -> None:
    plate = trimesh.creation.box((0.2, 0.1, 0.001))
    uv = pixels(silhouette_contours(CAMERA, plate, at(0.1, -0.05)))
    # 0.2 m at 1 m with 500 px: 100 px wide about u = 320 + 50, 50 px high about v = 240 - 25
    np.testing.assert_allclose(uv.min(0), (320, 190), atol=1.01)
    np.testing.assert_allclose(uv.max(0), (420, 240), atol=1.01)


@pytest.mark.parametrize("subdivisions", [2, 6])  # 320 faces filled one by one; 81,920 of which most are splatted
def test_outline_of_a_ball_is_its_circle_at_any_face_count(subdivisions: int) -> None:
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.1)
    contours = silhouette_contours(CAMERA, ball, at())
    assert len(contours) == 1
    radius = np.linalg.norm(pixels(contours) - (320, 240), axis=1)
    expected = 500 * np.tan(np.arcsin(0.1))
    assert abs(radius.mean() - expected) < 1.2
    assert radius.std() < 1.0


def test_outline_follows_the_lens_distortion() -> None:
    bent = Camera(640, 480, K, np.array([-0.3, 0.1, 0, 0, 0]))
    plate = trimesh.creation.box((0.02, 0.02, 0.001))
    straight = pixels(silhouette_contours(CAMERA, plate, at(0.4, 0.3))).mean(0)
    seen = pixels(silhouette_contours(bent, plate, at(0.4, 0.3))).mean(0)
    expected = cv2.projectPoints(np.array([[0.4, 0.3, 1.0]]), np.zeros(3), np.zeros(3), K, bent.distortion)[0].ravel()
    assert np.linalg.norm(straight - expected) > 10
    np.testing.assert_allclose(seen, expected, atol=1.0)


def test_holes_are_outlined_too() -> None:
    ring = trimesh.creation.annulus(r_min=0.05, r_max=0.1, height=0.01)
    radii = sorted(
        np.linalg.norm(pixels([c]) - (320, 240), axis=1).mean() for c in silhouette_contours(CAMERA, ring, at())
    )
    np.testing.assert_allclose(radii, (25, 50), atol=1.5)


@pytest.mark.parametrize("T", [at(z=-1), at(x=5), at(y=-9, z=2)], ids=["behind", "right of the image", "above it"])
def test_what_is_not_in_the_image_has_no_outline(T: np.ndarray) -> None:
    assert silhouette_contours(CAMERA, trimesh.creation.box((0.1, 0.1, 0.1)), T) == []


def test_an_object_across_the_camera_plane_and_the_image_border_is_drawn_in_part() -> None:
    rod = trimesh.creation.box((0.1, 0.1, 4.0)).subdivide().subdivide().subdivide()
    uv = pixels(silhouette_contours(CAMERA, rod, at(0.3, 0, 1.5)))
    assert len(uv) > 50
    border = 640 / overlay.MASK_SIDE * 2 * overlay.MARGIN  # drawn outside the image, so that no edge is invented in it
    assert uv.min() > -border
    assert (uv < np.array([640, 480]) + border).all()


def test_draw_overlay_draws_in_the_objects_colour_and_leaves_its_input() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    cube = trimesh.creation.box((0.2, 0.2, 0.2))
    drawn = draw_overlay(image, CAMERA, [estimate("cube", at())], {"cube": cube})
    assert not image.any()
    colour = object_colour("7")
    front = 240 + 500 * 0.1 / 0.9  # the lower edge of the near face
    strip = drawn[int(front) - 3 : int(front) + 4, 300].astype(float).sum(0)  # an anti-aliased line of one pixel
    np.testing.assert_allclose(strip / strip.sum(), np.array(colour) / sum(colour), atol=0.02)
    assert strip.max() > 200
    assert not drawn[400:, :200].any()


def test_missing_mesh_and_unusable_box_still_give_a_picture() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    broken = estimate("cube", at(), box=(np.nan, 0, 1, 1))
    drawn = draw_overlay(image, CAMERA, [estimate("unheard of", at()), broken], {})
    assert drawn.any()


def test_colours_stay_with_the_name_and_differ() -> None:
    assert object_colour("a") == object_colour("a")
    assert len({object_colour(str(i)) for i in range(20)}) > 15


def test_wrong_image_type_is_refused() -> None:
    with pytest.raises(ValueError, match="image_rgb"):
        draw_overlay(np.zeros((480, 640), np.uint8), CAMERA, [], {})
