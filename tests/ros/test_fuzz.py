"""Whatever a message holds, a conversion gives something sound or raises BadMessage; nothing unsound ever leaves."""

from __future__ import annotations

import math
import os
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

from pasr_perception.crop import CropSpec, crop_detections
from pasr_perception.geometry.camera import check_camera
from pasr_perception.ros.books import MarkerBook, ObjectBook, TransformBook
from pasr_perception.ros.checks import BadMessage
from pasr_perception.ros.convert import camera_from_msg, depth_for, detections_from_msg, frame_from_msgs
from pasr_perception.ros.encodings import DEPTH_ENCODINGS, ENCODINGS
from pasr_perception.ros.images import depth_from_msg, image_from_compressed, image_from_msg
from pasr_perception.ros.messages import Shape, named_hypotheses
from pasr_perception.types import Camera, Detection, Frame, FrameResult, Hypothesis, ObjectEstimate, StageTimings

pytestmark = pytest.mark.ros
# The same messages in every run, so that no one's change fails on another's luck; `PASR_FUZZ=3000 pytest tests/ros/test_fuzz.py`
# draws that many new ones per test, for after a change of the conversions.
FRESH = os.environ.get("PASR_FUZZ")
fuzz = settings(
    max_examples=int(FRESH or 100),
    derandomize=FRESH is None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

NUMBERS = st.one_of(
    st.floats(),
    st.floats(-2000, 2000),
    st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324]),
)
SIZES = st.one_of(st.integers(0, 12), st.sampled_from([2**16, 2**31, 2**32 - 1]))
ENCODING = st.one_of(st.sampled_from([*ENCODINGS, *DEPTH_ENCODINGS, "", "RGB8", "jpeg"]), st.text(max_size=8))


@st.composite
def headers(draw: Any) -> Header:
    header = Header(frame_id=draw(st.sampled_from(["camera", "", "other"])))
    header.stamp.sec = draw(st.one_of(st.integers(0, 10), st.integers(-(2**31), 2**31 - 1)))
    header.stamp.nanosec = draw(st.one_of(st.integers(0, 10), st.integers(0, 2**32 - 1)))
    return header


@st.composite
def images(draw: Any) -> Image:
    """Mostly nearly right: sizes that fit, then perhaps one that does not."""
    encoding, width, height = draw(ENCODING), draw(SIZES), draw(SIZES)
    known = ENCODINGS.get(encoding)
    pixel = known.bytes_per_pixel if known else {"32FC1": 4, "16UC1": 2}.get(encoding, 3)
    step = min(width * pixel + draw(st.sampled_from([0, 0, 0, 1, 7])), 2**32 - 1)
    length = step * height if step * height < 10_000 else draw(st.integers(0, 64))
    data = draw(st.binary(min_size=length, max_size=length))
    message = Image(header=draw(headers()), encoding=encoding, width=width, height=height, step=step, data=data)
    message.is_bigendian = draw(st.integers(0, 1))
    fault = draw(st.sampled_from(["", "", "step", "data", "width", "height"]))
    if fault == "data":
        message.data = data + b"x" if draw(st.booleans()) else data[:-1]
    elif fault:
        setattr(message, fault, draw(SIZES))
    return message


@fuzz
@given(images())
def test_images(message: Image) -> None:
    try:
        pixels = image_from_msg(message)
    except BadMessage:
        return
    assert (pixels.dtype, pixels.shape) == (np.uint8, (message.height, message.width, 3))


@fuzz
@given(images())
def test_depth(message: Image) -> None:
    try:
        depth = depth_from_msg(message)
    except BadMessage:
        return
    assert (depth.dtype, depth.shape) == (np.float32, (message.height, message.width))
    assert np.isfinite(depth).all()
    assert (depth >= 0).all()


@fuzz
@given(images(), st.floats(0.001, 10), st.integers(0, 2**40))
def test_depth_of_a_frame(message: Image, slop_s: float, stamp_ns: int) -> None:
    frame = Frame(np.zeros((4, 5, 3), np.uint8), Camera(5, 4, np.eye(3)), stamp_ns, "camera")
    try:
        depth = depth_for(frame, message, slop_s)
    except BadMessage:
        return
    assert depth.metres.shape == (4, 5)
    assert abs(depth.stamp_ns - stamp_ns) < slop_s * 1e9


WHOLE = {
    end: cv2.imencode(end, np.arange(192, dtype=np.uint8).reshape(8, 8, 3))[1].tobytes() for end in (".jpg", ".png")
}


@fuzz
@given(
    st.sampled_from(sorted(WHOLE)), st.integers(0, 200), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255))),
    st.text(max_size=30),
)  # fmt: skip
def test_compressed_images(kind: str, cut: int, bytes_changed: list[tuple[int, int]], form: str) -> None:
    data = bytearray(WHOLE[kind][: len(WHOLE[kind]) - cut])
    for position, value in bytes_changed:
        if position < len(data):
            data[position] = value
    try:
        pixels = image_from_compressed(CompressedImage(format=form, data=bytes(data)))
    except BadMessage:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


@st.composite
def camera_infos(draw: Any) -> CameraInfo:
    right = [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]
    k = [draw(NUMBERS) if draw(st.integers(0, 8)) == 0 else value for value in right]
    model = draw(st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", ""]))
    size = st.one_of(st.just(64), SIZES)
    roi = RegionOfInterest(x_offset=draw(SIZES), y_offset=draw(SIZES), width=draw(SIZES), height=draw(SIZES))
    info = CameraInfo(header=draw(headers()), width=draw(size), height=draw(size), k=k, distortion_model=model)
    info.d = draw(st.lists(st.one_of(NUMBERS, st.floats(-1, 1)), max_size=14))
    info.p = [draw(NUMBERS) for _ in range(12)] if draw(st.booleans()) else [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    info.binning_x, info.binning_y = draw(st.sampled_from([0, 1, 2, 2**32 - 1])), draw(st.sampled_from([0, 1, 2]))
    info.roi = roi if draw(st.booleans()) else RegionOfInterest()
    return info


@fuzz
@given(camera_infos(), st.booleans())
def test_camera_infos(info: CameraInfo, rectified: bool) -> None:
    try:
        camera = camera_from_msg(info, rectified)
    except BadMessage:
        return
    check_camera(camera)
    assert np.isfinite(camera.K).all()


@fuzz
@given(images(), camera_infos())
def test_frames(image: Image, info: CameraInfo) -> None:
    assume(image.encoding in ENCODINGS)
    if image.width < 100 and image.height < 100:  # give them a chance to fit
        info.width, info.height = image.width, image.height
    try:
        frame = frame_from_msgs(image, info)
    except BadMessage:
        return
    assert frame.image.shape[:2] == (frame.camera.height, frame.camera.width)
    assert frame.frame_id
    assert frame.stamp_ns >= 0


@st.composite
def detections(draw: Any) -> Detection2D:
    message = Detection2D(id=draw(st.sampled_from(["", "a", "0", "ä/b"])))
    box = message.bbox
    box.center.position.x, box.center.position.y, box.center.theta = (draw(NUMBERS) for _ in range(3))
    box.size_x, box.size_y = draw(NUMBERS), draw(NUMBERS)
    for _ in range(draw(st.integers(0, 2))):
        result = ObjectHypothesisWithPose()
        result.hypothesis.score = draw(NUMBERS)
        message.results.append(result)
    return message


@fuzz
@given(st.lists(detections(), max_size=5))
@example([Detection2D(bbox=BoundingBox2D(size_x=1.0, size_y=5e-324))])  # half of the smallest number is 0
def test_detections_and_what_the_crop_stage_makes_of_them(items: list[Detection2D]) -> None:
    good, bad = detections_from_msg(Detection2DArray(detections=items))
    assert len(good) + len(bad) == len(items)
    assert len({d.id for d in good}) == len(good)
    for detection in good:
        assert np.isfinite(detection.box).all()
        assert (detection.box[2:] > detection.box[:2]).all()
    frame = Frame(np.zeros((48, 64, 3), np.uint8), Camera(64, 48, np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])))
    crops, rejected = crop_detections(frame, good, CropSpec(16, 0.8))
    assert len(crops) + len(rejected) == len(good)


@st.composite
def poses(draw: Any) -> np.ndarray:
    T = np.eye(4)
    for _ in range(draw(st.integers(0, 3))):
        T[draw(st.integers(0, 2)), draw(st.integers(0, 3))] = draw(NUMBERS)
    return T


@fuzz
@given(st.lists(st.tuples(st.text(max_size=5), st.lists(poses(), max_size=3)), max_size=4), st.text(max_size=10))
def test_nothing_unsound_leaves(objects: list[tuple[str, list[np.ndarray]]], prefix: str) -> None:
    shapes = {"mug": Shape(np.zeros(3), np.ones(3), "file:///mug.glb")}
    box = np.array([0.0, 0, 9, 9])
    estimates = tuple(
        ObjectEstimate(Detection(box, id=name), tuple(Hypothesis("mug", "cup", 0.5, 0.5, T) for T in offered))
        for name, offered in objects
    )
    named, problems = named_hypotheses(FrameResult(estimates, StageTimings()))
    assert len(named) + len(problems) == len(estimates)
    header = Header(frame_id="camera")
    transforms = TransformBook().fill(header, named, prefix)
    assert len({t.child_frame_id for t in transforms}) == len(named)
    for transform in transforms:
        q, t = transform.transform.rotation, transform.transform.translation
        assert math.isclose(q.x**2 + q.y**2 + q.z**2 + q.w**2, 1, abs_tol=1e-9)
        assert all(map(math.isfinite, (t.x, t.y, t.z)))
        assert transform.child_frame_id.isascii()
    assert len(ObjectBook().fill(header, named, shapes).detections) == len(named)
    MarkerBook().update(header, named, shapes)
