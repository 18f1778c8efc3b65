"""Image messages of every encoding to RGB and metres, and what exactly is said about what cannot be used."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from messages import RGB, header, image
from sensor_msgs.msg import CompressedImage

from pasr_perception.ros.checks import BadMessage
from pasr_perception.ros.images import depth_from_msg, image_from_compressed, image_from_msg

pytestmark = pytest.mark.ros


def as_encoding(encoding: str) -> np.ndarray:
    alpha = np.full((*RGB.shape[:2], 1), 77, np.uint8)
    bgr = RGB[..., ::-1]
    return {"rgb8": RGB, "bgr8": bgr, "rgba8": np.dstack([RGB, alpha]), "bgra8": np.dstack([bgr, alpha])}[encoding]


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_colour_images_become_rgb_whatever_their_order_and_step(encoding: str, padding: int) -> None:
    np.testing.assert_array_equal(image_from_msg(image(as_encoding(encoding), encoding, padding)), RGB)


def test_grey_images_have_three_equal_channels() -> None:
    grey = np.array([[[0], [128]], [[255], [3]]], np.uint8)
    np.testing.assert_array_equal(image_from_msg(image(grey, "mono8", padding=2)), np.repeat(grey, 3, axis=2))


@pytest.mark.parametrize("big_endian", [False, True])
def test_sixteen_bit_grey_is_scaled_and_its_byte_order_respected(big_endian: bool) -> None:
    grey = np.array([[0, 65535], [32896, 257]], np.uint16)[..., None]
    wire = grey.astype(">u2" if big_endian else "<u2")
    pixels = image_from_msg(image(wire, "mono16", padding=2, is_bigendian=int(big_endian)))
    np.testing.assert_array_equal(pixels[..., 1], [[0, 255], [128, 1]])


@pytest.mark.parametrize(
    ("changes", "what", "expected", "got"),
    [
        ({"encoding": "32FC1"}, "image.encoding", "rgb8, bgr8", "'32FC1'"),
        ({"width": 0}, "image size", "1 to", "0x3"),
        ({"height": 0}, "image size", "1 to", "2x0"),
        ({"width": 4_000_000_000, "height": 4_000_000_000}, "image size", "1 to", "4000000000x4000000000"),
        ({"step": 5}, "image.step", "at least 6 bytes for 2 rgb8 pixels", "5"),
        ({"data": b"12345"}, "image.data", "step*height = 18 bytes", "5"),
        ({"data": bytes(19)}, "image.data", "step*height = 18 bytes", "19"),
    ],
)
def test_a_damaged_image_is_refused_in_one_exact_sentence(changes: dict, what: str, expected: str, got: str) -> None:
    with pytest.raises(BadMessage) as caught:
        image_from_msg(image(**changes))
    assert caught.value.what == what
    assert expected in str(caught.value).split(", got ")[0]
    assert str(caught.value).endswith(f"got {got}")


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_compressed_images_are_decoded_to_rgb(extension: str) -> None:
    smooth = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    data = cv2.imencode(extension, smooth[..., ::-1])[1].tobytes()
    decoded = image_from_compressed(CompressedImage(header=header(), format=extension[1:], data=data))
    assert decoded.shape == (16, 24, 3)
    np.testing.assert_allclose(decoded.reshape(-1, 3).mean(0), (200, 100, 50), atol=2)


@pytest.mark.parametrize(("form", "data"), [("jpeg", b""), ("jpeg", b"no image"), ("16UC1; compressedDepth png", b"x")])
def test_what_is_no_compressed_colour_image_is_refused(form: str, data: bytes) -> None:
    with pytest.raises(BadMessage, match=r"image\.(data|format): expected"):
        image_from_compressed(CompressedImage(header=header(), format=form, data=data))


BAYER = {"rggb": "RG/GB", "bggr": "BG/GR", "gbrg": "GB/RG", "grbg": "GR/BG"}  # the first two rows, as ROS names them


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", BAYER)
def test_bayer_mosaics_show_the_colour_that_was_behind_them(pattern: str, bits: int) -> None:
    colour = {"R": 200, "G": 120, "B": 40}
    cell = np.array([[colour[c] for c in row] for row in BAYER[pattern].split("/")])
    mosaic = np.tile(cell, (8, 8)).astype(np.uint8)[..., None]
    wire = mosaic if bits == 8 else mosaic.astype("<u2") * 257
    pixels = image_from_msg(image(wire, f"bayer_{pattern}{bits}", padding=4))
    assert pixels.shape == (16, 16, 3)
    np.testing.assert_allclose(pixels[4:-4, 4:-4].reshape(-1, 3).mean(0), (200, 120, 40), atol=1)


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv")]
)
def test_yuv_pairs_become_rgb_in_either_order(encoding: str, order: str) -> None:
    y, u, v = cv2.cvtColor(np.full((1, 1, 3), (200, 120, 40), np.uint8), cv2.COLOR_RGB2YUV)[0, 0]
    pair = {"uyvy": [u, y, v, y], "yuyv": [y, u, y, v]}[order]
    wire = np.tile(np.array(pair, np.uint8), (4, 3)).reshape(4, 6, 2)
    pixels = image_from_msg(image(wire, encoding, padding=2))
    assert pixels.shape == (4, 6, 3)
    # broadcast YUV (16 to 235) against the full range: the same hue, a little more contrast
    np.testing.assert_allclose(pixels.reshape(-1, 3).mean(0), (200, 120, 40), atol=30)
    assert pixels[0, 0, 0] > pixels[0, 0, 1] + 40 > pixels[0, 0, 2] + 80


@pytest.mark.parametrize(("encoding", "width"), [("yuyv", 3), ("bayer_rggb8", 3)])
def test_half_a_cell_of_pixels_is_refused(encoding: str, width: int) -> None:
    channels = 2 if encoding == "yuyv" else 1
    with pytest.raises(BadMessage, match=f"image size: expected whole cells of {encoding}.*got {width}x2"):
        image_from_msg(image(np.zeros((2, width, channels), np.uint8), encoding))


def test_float_depth_is_metres_with_holes_as_zero() -> None:
    metres = np.array([[0.5, np.nan], [np.inf, -np.inf], [-1.0, 3.25]], np.float32)
    depth = depth_from_msg(image(metres[..., None], "32FC1", padding=8))
    np.testing.assert_array_equal(depth, np.array([[0.5, 0], [0, 0], [0, 3.25]], np.float32))
    assert depth.dtype == np.float32


@pytest.mark.parametrize("big_endian", [False, True])
def test_integer_depth_is_millimetres_in_either_byte_order(big_endian: bool) -> None:
    millimetres = np.array([[500, 0], [65535, 1]], np.uint16).astype(">u2" if big_endian else "<u2")
    depth = depth_from_msg(image(millimetres[..., None], "16UC1", padding=2, is_bigendian=int(big_endian)))
    np.testing.assert_allclose(depth, [[0.5, 0], [65.535, 0.001]], rtol=1e-6)
    assert depth.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "rgb8"}, r"depth.encoding: expected 32FC1 \(metres\) or 16UC1 \(millimetres\), got 'rgb8'"),
        ({"width": 0}, "depth size: expected 1 to"),
        ({"step": 3}, "depth.step: expected at least 4 bytes for 2 16UC1 pixels, got 3"),
        ({"data": b"12"}, "depth.data: expected step"),
    ],
)
def test_damaged_depth_is_refused_by_field(changes: dict, message: str) -> None:
    with pytest.raises(BadMessage, match=message):
        depth_from_msg(image(np.zeros((3, 2, 1), np.uint16), **{"encoding": "16UC1", **changes}))
