from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pasr_perception.data import messages
from pasr_perception.data.records import Truth
from pasr_perception.data.ros_types import ros_types
from pasr_perception.geometry.se3 import make_T
from pasr_perception.types import Camera, Detection, Frame


def through_cdr(message):
    store = ros_types()
    return store.deserialize_cdr(store.serialize_cdr(message, message.__msgtype__), message.__msgtype__)


def some_frame(distortion=(), height=6, width=7):
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    K = np.array([[100.0, 0, 3.25], [0, 101.0, 2.75], [0, 0, 1]])
    return Frame(image, Camera(width, height, K, np.asarray(distortion, float)), 1_700_000_000_123_456_789, "cam")


def test_image_header_and_pixels_survive():
    frame = some_frame()
    message = through_cdr(messages.image_message(frame))
    assert messages.stamp_of(message) == frame.stamp_ns
    assert message.header.frame_id == "cam"
    np.testing.assert_array_equal(messages.image_from_message(message), frame.image)


def test_jpeg_keeps_the_channel_order():
    frame = some_frame(height=32, width=32)
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    message = through_cdr(messages.compressed_image_message(Frame(red, frame.camera), 95))
    np.testing.assert_allclose(messages.image_from_message(message), red, atol=4)


@pytest.mark.parametrize(("encoding", "pixel"), [("bgr8", [3, 2, 1]), ("rgba8", [1, 2, 3, 9]), ("bgra8", [3, 2, 1, 9])])
def test_other_encodings_become_rgb_and_row_padding_is_dropped(encoding, pixel):
    message = messages.image_message(some_frame(height=2, width=2))
    row = np.array(pixel * 2 + [77, 77, 77], np.uint8)
    message.encoding, message.step, message.data = encoding, len(row), np.tile(row, 2)
    np.testing.assert_array_equal(messages.image_from_message(message), np.tile([1, 2, 3], (2, 2, 1)))


def test_grey_images_get_three_channels():
    message = messages.image_message(some_frame(height=1, width=2))
    message.encoding, message.step, message.data = "mono8", 2, np.array([5, 9], np.uint8)
    np.testing.assert_array_equal(messages.image_from_message(message), [[[5, 5, 5], [9, 9, 9]]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "16UC1"}, "encoding.*16UC1"),
        ({"data": np.zeros(3, np.uint8)}, "3 bytes"),
        ({"step": 2}, "step 2"),
    ],
)
def test_bad_images_are_named(change, words):
    message = messages.image_message(some_frame())
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ValueError, match=words):
        messages.image_from_message(message)


def test_undecodable_jpeg_is_an_error():
    message = messages.compressed_image_message(some_frame(), 90)
    message.data = np.arange(50, dtype=np.uint8)
    with pytest.raises(ValueError, match="JPEG or PNG"):
        messages.image_from_message(message)


@pytest.mark.parametrize("distortion", [(), (0.1, -0.2, 0.001, 0.002, 0.05), tuple(0.01 * np.arange(1, 9))])
def test_camera_survives(distortion):
    frame = some_frame(distortion)
    camera = messages.camera_from_message(through_cdr(messages.camera_info_message(frame)))
    assert (camera.width, camera.height) == (7, 6)
    np.testing.assert_array_equal(camera.K, frame.camera.K)
    np.testing.assert_array_equal(camera.distortion, frame.camera.distortion)


def test_camera_info_counts_pixels_from_the_first_ones_centre():
    frame = some_frame()
    message = messages.camera_info_message(frame)
    K, P = np.reshape(message.k, (3, 3)), np.reshape(message.p, (3, 4))
    np.testing.assert_array_equal(K, [[100.0, 0, 2.75], [0, 101.0, 2.25], [0, 0, 1]])
    np.testing.assert_array_equal(P[:, :3], K)


def test_fisheye_is_refused_by_name():
    message = messages.camera_info_message(some_frame())
    message.distortion_model = "equidistant"
    with pytest.raises(ValueError, match="equidistant"):
        messages.camera_from_message(message)


def test_detections_survive():
    given = (Detection(np.array([1.5, 2.0, 30.25, 41.0]), 0.75, "mug", "a"), Detection(np.array([0.0, 0, 5, 5])))
    found = messages.detections_from_message(through_cdr(messages.detections_message(given, 7, "cam")))
    assert [(d.id, d.class_id, d.score) for d in found] == [("a", "mug", 0.75), ("", "", 1.0)]
    np.testing.assert_allclose([d.box for d in found], [d.box for d in given], atol=1e-12)


def test_the_likeliest_class_of_a_detection_counts():
    message = messages.detections_message((Detection(np.array([0.0, 0, 5, 5]), 0.2, "low"),), 7, "cam")
    message.detections[0].results += (
        messages.detections_message((Detection(np.array([0.0, 0, 5, 5]), 0.9, "high"),), 7, "cam").detections[0].results
    )
    assert messages.detections_from_message(message)[0].class_id == "high"


def test_truth_survives_with_its_off_centre_bounds():
    T = make_T(Rotation.from_rotvec([0.3, -2.0, 1.1]).as_matrix(), np.array([0.1, -0.2, 1.5]))
    box = np.array([10.0, 20, 30, 40])
    given = Truth("2_01", "chair", T, box, 0.625, np.array([0.2, 0.5, -0.1]), np.array([0.4, 1.0, 0.3]))
    found = messages.truths_from_message(through_cdr(messages.truths_message((given,), 7, "cam")), {"2_01": box})[0]
    assert (found.id, found.mesh_id, found.visible_fraction) == ("2_01", "chair", 0.625)
    for name in ("T_cam_obj", "box", "center", "size"):
        np.testing.assert_allclose(getattr(found, name), getattr(given, name), atol=1e-12)


def test_a_broken_quaternion_is_refused():
    message = messages.truths_message((Truth("a", "m", np.eye(4)),), 7, "cam")
    message.detections[0].results[0].pose.pose.orientation.w = 0.0
    with pytest.raises(ValueError, match="unit quaternion"):
        messages.truths_from_message(message, {})


def test_published_hypotheses_keep_their_order():
    T = make_T(np.eye(3), np.array([0.0, 0, 2]))
    message = messages.truths_message((Truth("7", "first", T, visible_fraction=0.9),), 5, "cam")
    other = messages.truths_message((Truth("7", "second", T, visible_fraction=0.4),), 5, "cam")
    message.detections[0].results += other.detections[0].results
    frame = messages.published_from_message(through_cdr(message), log_ns=11)
    assert (frame.stamp_ns, frame.log_ns, frame.frame_id) == (5, 11, "cam")
    assert [(h.mesh_id, h.score) for h in frame.objects[0].hypotheses] == [("first", 0.9), ("second", 0.4)]
    np.testing.assert_allclose(frame.objects[0].hypotheses[0].T_cam_obj, T)
