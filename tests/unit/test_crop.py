"""The virtual camera: geometry and picture agree with the real camera, distortion, borders and shrinking included."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pasr_perception.crop import BACKGROUND, CropError, CropSpec, crop_detection, crop_detections, look_through
from pasr_perception.geometry.camera import distort_points, project, rays, undistort_points
from pasr_perception.geometry.se3 import is_rotation
from pasr_perception.types import Camera, Crop, Detection, Frame

SPEC = CropSpec(size=224, fill=0.8)
K = np.array([[620.0, 0, 322.5], [0, 615.0, 238.0], [0, 0, 1]])
LENSES = {"pinhole": [], "barrel": [-0.25, 0.06, 0.001, -0.001], "rational": [0.4, 0.1, 0, 0, 0.01, 0.7, 0.2, 0.03]}
BOXES = [(300, 200, 360, 280), (20, 30, 120, 90), (500, 330, 620, 470), (100, 50, 560, 440)]


def camera(lens: str = "pinhole") -> Camera:
    return Camera(640, 480, K, np.array(LENSES[lens], dtype=np.float64))


def blank(lens: str = "pinhole") -> Frame:
    return Frame(np.zeros((480, 640, 3), np.uint8), camera(lens))


def crop(frame: Frame, box: tuple[float, ...], spec: CropSpec = SPEC) -> Crop:
    return crop_detection(frame, Detection(np.array(box, dtype=np.float64)), spec)


def to_crop(uv: np.ndarray, frame: Frame, result: Crop) -> np.ndarray:
    """Pixels of the real image to pixels of the crop."""
    return project(rays(undistort_points(uv, frame.camera), frame.camera.K) @ result.R_cam_crop, result.K_crop)


def smooth_colours(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A known picture [..., 3] as a function of continuous pixels, so smooth that interpolation is exact to a level."""
    return np.stack([128 + 100 * np.sin(u / 40), 128 + 100 * np.cos(v / 35), 40 + 0.2 * u + 0.1 * v], -1)


def smooth_frame(lens: str) -> Frame:
    v, u = np.indices((480, 640)) + 0.5
    return Frame(smooth_colours(u, v).round().astype(np.uint8), camera(lens))


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("box", BOXES)
def test_a_point_lands_in_the_crop_where_its_camera_says(lens: str, box: tuple[float, ...]):
    frame = blank(lens)
    result = crop(frame, box)
    u, v = np.meshgrid(np.linspace(box[0], box[2], 5), np.linspace(box[1], box[3], 5))
    uv = np.stack([u.ravel(), v.ravel()], 1)
    points_cam = rays(undistort_points(uv, frame.camera), K) * np.linspace(0.5, 3, len(uv))[:, None]
    back = distort_points(project(points_cam, K), frame.camera)
    np.testing.assert_allclose(back, uv, atol=1e-6)
    in_crop = project(points_cam @ result.R_cam_crop, result.K_crop)
    np.testing.assert_allclose(in_crop, to_crop(uv, frame, result), atol=1e-6)
    assert is_rotation(result.R_cam_crop, tol=1e-12)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("box", BOXES)
def test_the_picture_is_what_the_virtual_camera_sees(lens: str, box: tuple[float, ...]):
    frame = smooth_frame(lens)
    result = crop(frame, box)
    v, u = np.indices((SPEC.size, SPEC.size)) + 0.5
    ray = rays(np.stack([u.ravel(), v.ravel()], 1), result.K_crop) @ result.R_cam_crop.T
    source = distort_points(project(ray, K), frame.camera)
    inside = ((source > 4) & (source < [636, 476])).all(1)
    assert inside.mean() > 0.4
    expected = smooth_colours(*source[inside].T)
    error = result.image.reshape(-1, 3)[inside] - expected
    # half a pixel off would be 0.5 * 2.5 levels per pixel: the mean tells it apart, the sign keeps it from cancelling
    slope = np.sign(smooth_colours(*(source[inside] + 0.1).T) - expected)
    assert np.abs(error).max() < 4
    assert np.abs((error * slope).mean(0)).max() < 0.15


@pytest.mark.parametrize("lens", LENSES)
def test_a_drawn_dot_is_found_at_its_place(lens: str):
    frame = blank(lens)
    centre = np.array([[97.5, 61.5]])  # of pixel column 97, row 61
    frame.image[61, 97] = 255
    result = crop(frame, (70, 40, 120, 80))
    level = result.image[..., 0].astype(np.float64)
    v, u = np.indices(level.shape) + 0.5
    found = np.array([(u * level).sum(), (v * level).sum()]) / level.sum()
    np.testing.assert_allclose(found, to_crop(centre, frame, result)[0], atol=0.15)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("box", BOXES)
def test_the_box_is_centred_and_its_longer_side_fills(lens: str, box: tuple[float, ...]):
    result = crop(blank(lens), box)
    assert (result.box[2:] - result.box[:2]).max() == pytest.approx(SPEC.fill * SPEC.size, abs=1e-9)
    np.testing.assert_allclose((result.box[:2] + result.box[2:]) / 2, SPEC.size / 2, atol=0.05)
    np.testing.assert_allclose(result.K_crop[:2, 2], SPEC.size / 2)
    assert result.K_crop[0, 0] == result.K_crop[1, 1]


def test_the_crop_of_a_centred_box_is_a_plain_zoom():
    centred = Camera(640, 480, np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]))
    result = crop(replace(blank(), camera=centred), (280, 220, 360, 260))
    np.testing.assert_allclose(result.R_cam_crop, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(result.K_crop[0, 0], 600 * 0.8 * 224 / 80, rtol=1e-12)
    np.testing.assert_allclose(result.box, [112 - 89.6, 112 - 44.8, 112 + 89.6, 112 + 44.8], atol=1e-9)


def test_round_objects_off_the_axis_keep_their_bounds():
    """A ball far off the axis: its box in the crop agrees with its own bounds there; the box's corners would not."""
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(20000, 3))
    ball *= 0.1 / np.linalg.norm(ball, axis=1, keepdims=True)
    points = ball + np.array([0.42, 0.30, 1.0])
    uv = project(points, K)
    result = crop(blank(), (*uv.min(0), *uv.max(0)))
    seen = project(points @ result.R_cam_crop, result.K_crop)
    np.testing.assert_allclose(result.box, [*seen.min(0), *seen.max(0)], atol=0.01 * SPEC.size)
    corners = to_crop(np.stack(np.meshgrid(*np.stack([uv.min(0), uv.max(0)]).T), -1).reshape(-1, 2), blank(), result)
    assert np.ptp(corners, axis=0).max() > 1.1 * np.ptp(seen, axis=0).max()


def test_down_stays_down():
    R = look_through(np.array([0.4, -0.3, 1.0]))
    np.testing.assert_allclose(R[:, 2], np.array([0.4, -0.3, 1]) / np.linalg.norm([0.4, -0.3, 1]))
    assert R[1, 0] == pytest.approx(0, abs=1e-15)  # crop's x axis is level with the camera
    best = np.array([0, 1, 0]) - R[1, 2] * R[:, 2]  # the real camera's "down", as seen across the new axis
    np.testing.assert_allclose(R[:, 1], best / np.linalg.norm(best), atol=1e-12)


def test_shrinking_averages_instead_of_aliasing():
    """A chequerboard of single pixels is even grey when it shrinks; sampled without care it would be bars."""
    v, u = np.indices((1080, 1920))
    board = np.repeat((((u + v) % 2) * 255).astype(np.uint8)[..., None], 3, 2)
    wide = Camera(1920, 1080, np.array([[1400.0, 0, 960], [0, 1400, 540], [0, 0, 1]]))
    for side in (320, 420, 640, 1000):  # 1.8, 2.3, 3.6 and 5.6 image pixels per crop pixel
        result = crop(Frame(board, wide), (900 - side / 2, 540 - side / 2, 900 + side / 2, 540 + side / 2))
        middle = result.image[60:160, 60:160, 0].astype(np.float64)
        assert middle.mean() == pytest.approx(127.5, abs=2)
        assert middle.std() < 8


def test_a_shrunken_picture_is_not_shifted():
    v, u = np.indices((1080, 1920)) + 0.5
    wide = Camera(1920, 1080, np.array([[1400.0, 0, 960], [0, 1400, 540], [0, 0, 1]]))
    image = np.stack([u / 1920 * 255, v / 1080 * 255, 0 * u], -1).round().astype(np.uint8)
    result = crop(Frame(image, wide), (501, 137, 1437, 1009))
    v, u = np.indices((SPEC.size, SPEC.size)) + 0.5
    uv = np.stack([u.ravel(), v.ravel()], 1)
    source = project(rays(uv, result.K_crop) @ result.R_cam_crop.T, wide.K).reshape(SPEC.size, SPEC.size, 2)
    inside = ((source > 12) & (source < [1908, 1068])).all(-1)
    assert inside.mean() > 0.8
    error = (result.image[..., :2] / 255 * [1920, 1080] - source)[inside]
    assert np.abs(error.mean(0)).max() < 0.4  # image pixels; a crop pixel is five of them


@pytest.mark.parametrize("lens", LENSES)
def test_a_box_over_the_border_is_cropped_whole(lens: str):
    frame = Frame(np.full((480, 640, 3), 255, np.uint8), camera(lens))
    result = crop(frame, (-40, 100, 80, 220))
    assert result.clipped.tolist() == [True, False, False, False]
    assert (result.box[2:] - result.box[:2]).max() == pytest.approx(SPEC.fill * SPEC.size)
    border = to_crop(np.array([[0.0, 160]]), frame, result)[0]
    row, column = int(border[1]), int(border[0])
    assert result.box[0] < column < result.box[2]
    assert result.image[row, column - 3].tolist() == list(BACKGROUND)
    assert result.image[row, column + 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((1.9, 50, 90, 90), (1, 0, 0, 0)),
        ((2.1, 50, 90, 90), (0, 0, 0, 0)),
        ((300, -5, 638.5, 90), (0, 1, 1, 0)),
        ((0, 0, 640, 480), (1, 1, 1, 1)),
        ((300, 300, 637, 478), (0, 0, 0, 1)),
    ],
)
def test_clipped_edges_are_told(box: tuple[float, ...], expected: tuple[int, ...]):
    assert crop(blank(), box).clipped.astype(int).tolist() == list(expected)


def test_a_box_far_beyond_the_lens_is_cropped_by_its_visible_part():
    folding = replace(blank(), camera=Camera(640, 480, K, np.array([-0.3, 0, 0, 0])))
    whole, visible = crop(folding, (-9000, 100, 80, 220)), crop(folding, (0, 100, 80, 220))
    np.testing.assert_allclose(whole.box, visible.box)
    np.testing.assert_allclose(whole.R_cam_crop, visible.R_cam_crop)
    assert whole.clipped[0]


def test_a_lens_that_folds_shows_background_instead_of_ghosts():
    """With r - 0.6 r^3 the image ends before the crop does; what lies beyond must not mirror the picture."""
    short = Camera(640, 480, np.array([[420.0, 0, 320], [0, 420, 240], [0, 0, 1]]), np.array([-0.6, 0, 0, 0]))
    frame = Frame(np.full((480, 640, 3), 255, np.uint8), short)
    result = crop(frame, (330, 250, 480, 400), CropSpec(224, 0.25))
    v, u = np.indices((224, 224)) + 0.5
    ray = rays(np.stack([u.ravel(), v.ravel()], 1), result.K_crop) @ result.R_cam_crop.T
    r = np.where(ray[:, 2] > 0, np.hypot(ray[:, 0], ray[:, 1]) / np.abs(ray[:, 2]), np.inf).reshape(224, 224)
    turn = 1 / np.sqrt(1.8)
    assert (r > turn + 0.03).mean() > 0.1
    assert (result.image[r > turn + 0.03] == BACKGROUND).all()
    assert (result.image[r < turn - 0.2] == 255).all()


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((np.nan, 0, 10, 10), "finite"),
        ((0, 0, np.inf, 10), "finite"),
        ((10, 10, 10, 50), "x_min < x_max"),
        ((50, 10, 10, 50), "x_min < x_max"),
        ((700, 10, 800, 50), "outside"),
        ((-50, -50, -1, -1), "outside"),
        ((100, 100, 103, 160), "3.0 x 60.0 pixels"),
        ((-90, 100, 3, 160), "3.0 x 60.0 pixels"),
    ],
)
def test_unusable_boxes_say_why_and_harm_nobody(box: tuple[float, ...], reason: str):
    bad, good = Detection(np.array(box, dtype=np.float64)), Detection(np.array([10.0, 10, 60, 60]))
    with pytest.raises(CropError, match=reason):
        crop_detection(blank(), bad, SPEC)
    crops, rejected = crop_detections(blank(), [bad, good], SPEC)
    assert [c.detection for c in crops] == [good]
    assert rejected[0][0] is bad
    assert reason in rejected[0][1]


def test_a_box_wider_than_any_view_is_refused():
    very_wide = Camera(640, 480, np.array([[60.0, 0, 320], [0, 60, 240], [0, 0, 1]]))
    with pytest.raises(CropError, match="degrees of view"):
        crop(replace(blank(), camera=very_wide), (0, 0, 640, 480))


def test_unusable_frames_and_specs_are_named():
    with pytest.raises(ValueError, match=r"frame\.image"):
        crop(Frame(np.zeros((480, 640), np.uint8), camera()), BOXES[0])
    with pytest.raises(ValueError, match=r"frame\.image"):
        crop(Frame(np.zeros((480, 641, 3), np.uint8), camera()), BOXES[0])
    with pytest.raises(ValueError, match=r"frame\.image"):
        crop(Frame(np.zeros((480, 640, 3), np.float32), camera()), BOXES[0])
    with pytest.raises(ValueError, match=r"crop\.size"):
        CropSpec(0, 0.8)
    with pytest.raises(ValueError, match=r"crop\.fill"):
        CropSpec(224, 1.5)


def test_the_frame_is_left_as_it_was():
    frame = smooth_frame("barrel")
    before = frame.image.copy()
    crop_detections(frame, [Detection(np.array(b, dtype=np.float64)) for b in BOXES], SPEC)
    np.testing.assert_array_equal(frame.image, before)


def test_agrees_with_opencv_undistortion_of_the_whole_image():
    """Another way to the same picture: undistort everything, then warp by the homography."""
    frame = smooth_frame("barrel")
    result = crop(frame, BOXES[0])
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    flat = cv2.undistort(frame.image, K - half, frame.camera.distortion)
    H = (result.K_crop - half) @ result.R_cam_crop.T @ np.linalg.inv(K - half)
    other = cv2.warpPerspective(flat, H, (SPEC.size, SPEC.size))
    assert np.abs(other.astype(int) - result.image).max() <= 3
