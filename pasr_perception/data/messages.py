"""Between ROS messages as `rosbags` sees them and this project's dataclasses. Pure functions, no files.

Ground truth travels as vision_msgs: `Detection3D.results[0]` holds mesh id, pose and, as its score, the visible
fraction; the visible boxes are a Detection2DArray of their own, matched by `id`.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from pasr_perception.data.records import PublishedFrame, PublishedHypothesis, PublishedObject, PublishedStatus, Truth
from pasr_perception.data.ros_types import ros_types
from pasr_perception.geometry.camera import HALF_A_PIXEL
from pasr_perception.geometry.se3 import make_T, quaternion_xyzw, rotation_from_quaternion_xyzw
from pasr_perception.types import Camera, Detection, Frame

FIXED_FRAME = "world"  # of simulated bags
CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}
DISTORTION_MODELS = {0: "plumb_bob", 4: "plumb_bob", 5: "plumb_bob", 8: "rational_polynomial"}


def _new(name: str, **values: Any) -> Any:
    package, kind = name.split("/")
    return ros_types().types[f"{package}/msg/{kind}"](**values)


def header(stamp_ns: int, frame_id: str) -> Any:
    """std_msgs/Header."""
    stamp = _new("builtin_interfaces/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return _new("std_msgs/Header", stamp=stamp, frame_id=frame_id)


def stamp_of(message: Any) -> int:
    """The header's stamp in nanoseconds."""
    stamped = message.transforms[0] if hasattr(message, "transforms") else message
    return int(stamped.header.stamp.sec) * 10**9 + int(stamped.header.stamp.nanosec)


def image_message(frame: Frame) -> Any:
    """sensor_msgs/Image, rgb8."""
    height, width = frame.image.shape[:2]
    data = np.ascontiguousarray(frame.image).reshape(-1)
    head = header(frame.stamp_ns, frame.frame_id)
    values = {"encoding": "rgb8", "is_bigendian": 0, "step": width * 3, "data": data}
    return _new("sensor_msgs/Image", header=head, height=height, width=width, **values)


def compressed_image_message(frame: Frame, quality: int) -> Any:
    """sensor_msgs/CompressedImage, JPEG of `quality` 1..100."""
    ok, data = cv2.imencode(".jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    values = {"format": "rgb8; jpeg compressed bgr8", "data": data.reshape(-1)}
    return _new("sensor_msgs/CompressedImage", header=header(frame.stamp_ns, frame.frame_id), **values)


def image_from_message(message: Any) -> np.ndarray:
    """RGB [H, W, 3] uint8 of an Image or CompressedImage; ValueError says what cannot be read."""
    if hasattr(message, "format"):
        decoded = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if decoded is None:
            raise ValueError(f"compressed image: expected JPEG or PNG data, got {len(message.data)} unreadable bytes")
        return np.ascontiguousarray(decoded[..., ::-1])
    channels = CHANNELS.get(message.encoding)
    if channels is None:
        raise ValueError(f"image encoding: expected one of {', '.join(CHANNELS)}, got {message.encoding!r}")
    height, width, step = int(message.height), int(message.width), int(message.step)
    if step < width * channels or len(message.data) < height * step or not height * width:
        expected = f"{height} rows of at least {width * channels} bytes"
        raise ValueError(f"image data: expected {expected}, got step {step} and {len(message.data)} bytes")
    rows = np.asarray(message.data)[: height * step].reshape(height, step)[:, : width * channels]
    pixels = np.ascontiguousarray(rows).reshape(height, width, channels)
    return pixels if message.encoding == "rgb8" else cv2.cvtColor(pixels, TO_RGB[message.encoding])


def camera_info_message(frame: Frame) -> Any:
    """sensor_msgs/CameraInfo of an unrectified image."""
    camera = frame.camera
    count = len(camera.distortion)
    roi = _new("sensor_msgs/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return _new(
        "sensor_msgs/CameraInfo",
        header=header(frame.stamp_ns, frame.frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model=DISTORTION_MODELS[count],
        d=np.asarray(camera.distortion, float) if count else np.zeros(5),
        k=(camera.K - HALF_A_PIXEL).reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.hstack([camera.K - HALF_A_PIXEL, np.zeros((3, 1))]).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def camera_from_message(message: Any) -> Camera:
    """The pinhole camera of a CameraInfo; ValueError for lens models other than plumb_bob and rational_polynomial."""
    model = message.distortion_model
    if model not in ("", *DISTORTION_MODELS.values()):
        raise ValueError(f"distortion_model: expected plumb_bob or rational_polynomial, got {model!r}")
    distortion = np.array(message.d, float)
    if not distortion.any():
        distortion = np.zeros(0)
    K = np.array(message.k, float).reshape(3, 3) + HALF_A_PIXEL
    return Camera(int(message.width), int(message.height), K, distortion)


def pose_message(T: np.ndarray) -> Any:
    """geometry_msgs/Pose."""
    x, y, z = (float(v) for v in T[:3, 3])
    qx, qy, qz, qw = (float(v) for v in quaternion_xyzw(T[:3, :3]))
    orientation = _new("geometry_msgs/Quaternion", x=qx, y=qy, z=qz, w=qw)
    return _new("geometry_msgs/Pose", position=_new("geometry_msgs/Point", x=x, y=y, z=z), orientation=orientation)


def pose_from_message(pose: Any) -> np.ndarray:
    """[4, 4] float64 of a geometry_msgs/Pose; ValueError where the quaternion is no rotation."""
    p, q = pose.position, pose.orientation
    quaternion = np.array([q.x, q.y, q.z, q.w])
    norm = float(np.linalg.norm(quaternion))
    if not abs(norm - 1) < 1e-3:
        raise ValueError(f"pose.orientation: expected a unit quaternion, got {quaternion.tolist()}")
    return make_T(rotation_from_quaternion_xyzw(quaternion / norm), np.array([p.x, p.y, p.z]))


def camera_transform_message(T_fixed_cam: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
    """tf2_msgs/TFMessage: where the camera `frame_id` is in the fixed frame `FIXED_FRAME`."""
    pose = pose_message(T_fixed_cam)
    at = pose.position
    transform = _new(
        "geometry_msgs/Transform",
        translation=_new("geometry_msgs/Vector3", x=at.x, y=at.y, z=at.z),
        rotation=pose.orientation,
    )
    head = header(stamp_ns, FIXED_FRAME)
    stamped = _new("geometry_msgs/TransformStamped", header=head, child_frame_id=frame_id, transform=transform)
    return _new("tf2_msgs/TFMessage", transforms=[stamped])


def camera_transform_from_message(message: Any) -> np.ndarray | None:
    """T_fixed_cam [4, 4] of a TFMessage as `camera_transform_message` makes it; None where it tells of other frames."""
    for item in message.transforms:
        if item.header.frame_id == FIXED_FRAME:
            at, q = item.transform.translation, item.transform.rotation
            R = rotation_from_quaternion_xyzw(np.array([q.x, q.y, q.z, q.w]))
            return make_T(R, np.array([at.x, at.y, at.z]))
    return None


def _result(class_id: str, score: float, T: np.ndarray) -> Any:
    hypothesis = _new("vision_msgs/ObjectHypothesis", class_id=class_id, score=float(score))
    pose = _new("geometry_msgs/PoseWithCovariance", pose=pose_message(T), covariance=np.zeros(36))
    return _new("vision_msgs/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=pose)


def detections_message(detections: tuple[Detection, ...], stamp_ns: int, frame_id: str) -> Any:
    """vision_msgs/Detection2DArray."""
    items = []
    for detection in detections:
        x0, y0, x1, y1 = (float(v) for v in detection.box)
        position = _new("vision_msgs/Point2D", x=(x0 + x1) / 2, y=(y0 + y1) / 2)
        centre = _new("vision_msgs/Pose2D", position=position, theta=0.0)
        bbox = _new("vision_msgs/BoundingBox2D", center=centre, size_x=x1 - x0, size_y=y1 - y0)
        results = [_result(detection.class_id, detection.score, np.eye(4))]
        head = header(stamp_ns, frame_id)
        items.append(_new("vision_msgs/Detection2D", header=head, results=results, bbox=bbox, id=detection.id))
    return _new("vision_msgs/Detection2DArray", header=header(stamp_ns, frame_id), detections=items)


def detections_from_message(message: Any) -> tuple[Detection, ...]:
    """The detections of a Detection2DArray; of several results the highest score counts."""
    found = []
    for item in message.detections:
        centre, size = item.bbox.center.position, (item.bbox.size_x, item.bbox.size_y)
        half = np.array(size, float) / 2
        box = np.concatenate([np.array([centre.x, centre.y]) - half, np.array([centre.x, centre.y]) + half])
        best = max((r.hypothesis for r in item.results), key=lambda h: h.score, default=None)
        score, class_id = (1.0, "") if best is None else (float(best.score), best.class_id)
        found.append(Detection(box, score, class_id, item.id))
    return tuple(found)


def truths_message(truths: tuple[Truth, ...], stamp_ns: int, frame_id: str) -> Any:
    """vision_msgs/Detection3DArray of the ground truth."""
    items = []
    for truth in truths:
        x, y, z = (float(v) for v in truth.size)
        T_cam_center = truth.T_cam_obj @ make_T(np.eye(3), np.asarray(truth.center, float))
        size = _new("geometry_msgs/Vector3", x=x, y=y, z=z)
        bbox = _new("vision_msgs/BoundingBox3D", center=pose_message(T_cam_center), size=size)
        results = [_result(truth.mesh_id, truth.visible_fraction, truth.T_cam_obj)]
        head = header(stamp_ns, frame_id)
        items.append(_new("vision_msgs/Detection3D", header=head, results=results, bbox=bbox, id=truth.id))
    return _new("vision_msgs/Detection3DArray", header=header(stamp_ns, frame_id), detections=items)


def truths_from_message(message: Any, boxes: dict[str, np.ndarray]) -> tuple[Truth, ...]:
    """Ground truth of a Detection3DArray; `boxes` are the visible boxes by object id, as far as known."""
    found = []
    for item in message.detections:
        if not item.results:
            raise ValueError(f"ground truth object {item.id!r}: expected a result with mesh id and pose, got none")
        result = item.results[0]
        T = pose_from_message(result.pose.pose)
        at = item.bbox.center.position
        center = T[:3, :3].T @ (np.array([at.x, at.y, at.z]) - T[:3, 3])
        size = np.array([item.bbox.size.x, item.bbox.size.y, item.bbox.size.z])
        hypothesis = result.hypothesis
        found.append(Truth(item.id, hypothesis.class_id, T, boxes.get(item.id), float(hypothesis.score), center, size))
    return tuple(found)


def published_from_message(message: Any, log_ns: int) -> PublishedFrame:
    """What the node answered for one image."""
    objects = []
    for item in message.detections:
        hypotheses = tuple(
            PublishedHypothesis(r.hypothesis.class_id, float(r.hypothesis.score), pose_from_message(r.pose.pose))
            for r in item.results
        )
        at, size = item.bbox.center.position, item.bbox.size
        center = np.array([at.x, at.y, at.z])
        objects.append(PublishedObject(item.id, hypotheses, center, np.array([size.x, size.y, size.z])))
    return PublishedFrame(stamp_of(message), log_ns, message.header.frame_id, tuple(objects))


def statuses_from_message(message: Any, log_ns: int) -> tuple[PublishedStatus, ...]:
    """The statuses of a diagnostic_msgs/DiagnosticArray."""
    return tuple(
        PublishedStatus(log_ns, s.name, int(s.level), s.message, {pair.key: pair.value for pair in s.values})
        for s in message.status
    )
