"""ROS messages to our types: what arrives, and what exactly is said about what cannot be used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")

from messages import header, image
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from pasr_perception.ros.checks import BadMessage
from pasr_perception.ros.convert import RememberedCamera, camera_from_msg, detections_from_msg, frame_from_msgs
from pasr_perception.types import Camera

pytestmark = pytest.mark.ros
K = [500.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0]


def camera_info(**changes: Any) -> CameraInfo:
    values = {"width": 640, "height": 480, "k": K, "d": [], "distortion_model": "plumb_bob", **changes}
    return CameraInfo(header=header(), **values)


def detection(name: str = "", **changes: float) -> Detection2D:
    x, y, w, h, theta = ({"x": 50, "y": 40, "w": 20, "h": 10, "theta": 0} | changes).values()
    message = Detection2D(id=name)
    message.bbox.center.position.x, message.bbox.center.position.y = float(x), float(y)
    message.bbox.center.theta = float(theta)
    message.bbox.size_x, message.bbox.size_y = float(w), float(h)
    return message


def test_the_principal_point_moves_by_half_a_pixel_to_our_convention() -> None:
    camera = camera_from_msg(camera_info())
    assert (camera.width, camera.height) == (640, 480)
    np.testing.assert_allclose(camera.K, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])
    assert camera.distortion.size == 0


@pytest.mark.parametrize(
    ("model", "d", "kept"),
    [
        ("plumb_bob", [0.1, 0.2, 0.3, 0.4, 0.5], 5),
        ("plumb_bob", [0.1, 0.2, 0.3, 0.4], 4),
        ("rational_polynomial", [0.1] * 8, 8),
        ("rational_polynomial", [0.1] * 8 + [0.0] * 4, 8),
        ("plumb_bob", [0.0] * 5, 0),
        ("equidistant", [0.0] * 4, 0),
    ],
)
def test_distortion_is_taken_over_and_zeros_are_none(model: str, d: list[float], kept: int) -> None:
    camera = camera_from_msg(camera_info(distortion_model=model, d=d))
    np.testing.assert_allclose(camera.distortion, d[:kept])


def test_binning_and_region_of_interest_shift_and_scale_the_camera() -> None:
    roi = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=200)
    camera = camera_from_msg(camera_info(roi=roi, binning_x=2, binning_y=2))
    assert (camera.width, camera.height) == (200, 100)
    np.testing.assert_allclose(camera.K, [[250, 0, 110], [0, 255, 100], [0, 0, 1]])


def test_a_rectified_image_uses_p_and_no_distortion_whatever_the_lens_was() -> None:
    p = [400.0, 0.0, 299.5, 0.0, 0.0, 400.0, 199.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    info = camera_info(distortion_model="equidistant", d=[0.1] * 4, p=p)
    camera = camera_from_msg(info, rectified=True)
    np.testing.assert_allclose(camera.K, [[400, 0, 300], [0, 400, 200], [0, 0, 1]])
    assert camera.distortion.size == 0


@pytest.mark.parametrize(
    ("changes", "what", "message"),
    [
        ({"k": [0.0] * 9}, "camera_info.k", "all zeros"),
        ({"k": [math.nan, *K[1:]]}, "camera_info.k", "finite"),
        ({"k": [-1.0, *K[1:]]}, "camera_info.k", "focal"),
        ({"k": [*K[:8], 0.5]}, "camera_info.k", "bottom row"),
        ({"width": 0}, "camera_info size", "0x480"),
        ({"distortion_model": "equidistant", "d": [0.1] * 4}, "camera_info.distortion_model", "rectify the image"),
        ({"d": [0.1] * 3}, "camera_info.d", "4 or 5 numbers for plumb_bob"),
        ({"d": [math.inf] * 5}, "camera_info.d", "finite"),
        ({"distortion_model": "rational_polynomial", "d": [0.1] * 12}, "camera_info.d", "8 numbers"),
    ],
)
def test_a_useless_camera_info_is_refused_by_field(changes: dict, what: str, message: str) -> None:
    with pytest.raises(BadMessage, match=message) as caught:
        camera_from_msg(camera_info(**changes))
    assert caught.value.what == what


CHANGES: list[dict[str, Any]] = [
    {"k": [500.0, 0, 300, 0, 500, 200, 0, 0, 1]},
    {"d": [0.1, 0, 0, 0, 0]},
    {"d": [0.1, 0, 0, 0, 0], "distortion_model": "rational_polynomial"},
    {"width": 800},
    {"height": 600},
    {"binning_x": 2},
    {"binning_y": 2},
    {"roi": RegionOfInterest(x_offset=8)},
    {"roi": RegionOfInterest(y_offset=8)},
    {"roi": RegionOfInterest(width=320)},
    {"roi": RegionOfInterest(height=240)},
]


def test_a_remembered_camera_is_read_again_when_anything_changes() -> None:
    read = RememberedCamera()
    plain = camera_info()
    assert read(plain) is read(camera_info())
    for changes in CHANGES:
        changed = camera_info(**changes)
        if changed.distortion_model == "rational_polynomial":
            with pytest.raises(BadMessage):
                read(changed)
        else:
            assert same_camera(read(changed), camera_from_msg(changed))
        assert same_camera(read(plain), camera_from_msg(plain))
    other_p = camera_info(p=[700.0, 0, 320, 0, 0, 700, 240, 0, 0, 0, 1, 0])
    assert read(other_p, True).K[0, 0] == 700
    assert read(other_p, False).K[0, 0] == plain.k[0]


def same_camera(one: Camera, other: Camera) -> bool:
    same = (one.width, one.height) == (other.width, other.height)
    return same and np.array_equal(one.K, other.K) and np.array_equal(one.distortion, other.distortion)


def test_a_frame_takes_stamp_and_frame_id_from_the_image() -> None:
    frame = frame_from_msgs(image(np.zeros((480, 640, 3), np.uint8)), camera_info())
    assert (frame.stamp_ns, frame.frame_id) == (5_000_000_020, "camera")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"header": header(frame_id="")}, "image.header.frame_id"),
        ({"header": header(nanosec=1_000_000_000)}, "image.header.stamp"),
        ({"header": header(sec=-1)}, "image.header.stamp"),
        ({}, "image size"),  # 2x3 pixels against a camera of 640x480
    ],
)
def test_a_frame_that_does_not_fit_together_is_refused(changes: dict, what: str) -> None:
    with pytest.raises(BadMessage) as caught:
        frame_from_msgs(image(**changes), camera_info())
    assert caught.value.what == what


def test_detections_keep_order_id_class_and_best_score() -> None:
    first = detection(name="left cup")
    for class_id, score in (("bowl", 0.2), ("cup", 0.7), ("vase", 0.1)):
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        first.results.append(result)
    good, bad = detections_from_msg(Detection2DArray(detections=[first, detection()]))
    assert bad == []
    np.testing.assert_allclose(good[0].box, [40, 35, 60, 45])
    assert (good[0].id, good[0].class_id, good[0].score) == ("left cup", "cup", 0.7)
    assert (good[1].id, good[1].class_id, good[1].score) == ("1", "", 1.0)


def test_a_turned_box_becomes_its_bounds() -> None:
    good, _ = detections_from_msg(Detection2DArray(detections=[detection(theta=math.pi / 2)]))
    np.testing.assert_allclose(good[0].box, [45, 30, 55, 50])


def test_names_are_unique_even_if_the_detector_repeats_itself() -> None:
    names = ["a", "a", "", "3", ""]
    good, _ = detections_from_msg(Detection2DArray(detections=[detection(name=n) for n in names]))
    assert [d.id for d in good] == ["a", "1", "2", "3", "4"]
    good, _ = detections_from_msg(Detection2DArray(detections=[detection(name=n) for n in ("1", "1")]))
    assert len({d.id for d in good}) == 2


@pytest.mark.parametrize("fault", [{"x": math.nan}, {"w": math.inf}, {"w": 0}, {"h": -3}, {"theta": math.nan}])
def test_one_bad_box_is_named_and_the_others_are_used(fault: dict[str, float]) -> None:
    array = Detection2DArray(detections=[detection(), detection(name="broken", **fault), detection()])
    good, bad = detections_from_msg(array)
    assert [d.id for d in good] == ["0", "2"]
    assert len(bad) == 1
    assert bad[0].what == "detection.bbox"
    assert "(detection 'broken')" in str(bad[0])


def test_a_score_that_is_no_number_is_refused() -> None:
    message = detection(name="odd")
    result = ObjectHypothesisWithPose()
    result.hypothesis.score = math.nan
    message.results.append(result)
    good, bad = detections_from_msg(Detection2DArray(detections=[message]))
    assert good == []
    assert "detection.score: expected a finite number, got nan" in str(bad[0])
