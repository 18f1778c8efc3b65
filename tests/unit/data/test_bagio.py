from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pasr_perception.data import messages
from pasr_perception.data.assemble import MAX_PENDING, BagTopics, RawMessage
from pasr_perception.data.bagio import (
    BagError,
    BagReader,
    BagWriter,
    read_frames,
    read_published,
    read_statuses,
    write_frames,
)
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.data.ros_types import ros_types
from pasr_perception.geometry.se3 import make_T
from pasr_perception.types import Camera, Detection, Frame

TOPICS = BagTopics()


def bag_frame(number: int) -> BagFrame:
    image = np.full((40, 50, 3), number, np.uint8)
    K = np.array([[60.0, 0, 25], [0, 60, 20], [0, 0, 1]])
    box = np.array([number, 2.0, 20, 30])
    truth = Truth("a", "mug", np.eye(4), box, 0.5)
    return BagFrame(Frame(image, Camera(50, 40, K), 10**18 + number, "cam"), (Detection(box, id="a"),), (truth,))


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    write_frames(tmp_path / "bag", (bag_frame(i) for i in range(5)))
    return tmp_path / "bag"


@pytest.mark.parametrize("quality", [0, 95])
def test_frames_come_back(tmp_path, quality):
    assert write_frames(tmp_path / "bag", (bag_frame(i) for i in range(5)), jpeg_quality=quality) == 5
    found = list(read_frames(tmp_path / "bag"))
    assert [f.frame.stamp_ns for f in found] == [10**18 + i for i in range(5)]
    for number, item in enumerate(found):
        np.testing.assert_allclose(item.frame.image, number, atol=1)
        assert item.frame.frame_id == "cam"
        assert item.detections[0].id == item.truths[0].id == "a"
        np.testing.assert_allclose(item.detections[0].box, [number, 2, 20, 30])
        np.testing.assert_allclose(item.truths[0].box, [number, 2, 20, 30])


def test_reading_is_lazy(bag):
    reader = read_frames(bag)
    assert next(reader).frame.stamp_ns == 10**18
    shutil.copytree(bag, bag.parent / "copy")  # the rest is still to be read from an open file
    assert next(reader).frame.stamp_ns == 10**18 + 1


def test_an_existing_bag_is_kept_unless_told(bag):
    with pytest.raises(BagError, match="exists already"):
        write_frames(bag, [bag_frame(0)])
    write_frames(bag, [bag_frame(9)], overwrite=True)
    assert [f.frame.stamp_ns for f in read_frames(bag)] == [10**18 + 9]


def test_a_folder_that_is_no_bag_is_never_overwritten(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("x")
    with pytest.raises(BagError, match="not a bag"):
        write_frames(tmp_path / "precious", [bag_frame(0)], overwrite=True)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "x"


def test_a_failed_write_leaves_nothing_and_keeps_the_old(bag):
    def failing():
        yield bag_frame(7)
        raise RuntimeError("camera on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        write_frames(bag, failing(), overwrite=True)
    assert [p.name for p in bag.parent.iterdir()] == ["bag"]
    assert len(list(read_frames(bag))) == 5


def test_an_empty_bag_is_not_written(tmp_path):
    with pytest.raises(BagError, match="at least one frame"):
        write_frames(tmp_path / "bag", [])
    assert not (tmp_path / "bag").exists()


def test_detections_may_come_late_and_calibration_once(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        first = bag_frame(0).frame
        writer.write(TOPICS.camera_info, messages.camera_info_message(first), 0)
        for number in range(4):
            item = bag_frame(number)
            writer.write(TOPICS.image, messages.image_message(item.frame), 10 * number)
        for number in range(4):
            item = bag_frame(number)
            message = messages.detections_message(item.detections, item.frame.stamp_ns, "cam")
            writer.write(TOPICS.detections, message, 100 + number)
    found = list(read_frames(tmp_path / "bag"))
    assert [f.detections[0].box[0] for f in found] == [0, 1, 2, 3]
    assert all(f.frame.camera.K[0, 0] == 60 for f in found)


def test_images_without_detections_are_handed_out_in_order_without_filling_memory(tmp_path):
    count = MAX_PENDING + 10
    with BagWriter(tmp_path / "bag") as writer:
        writer.declare(TOPICS.detections, "vision_msgs/msg/Detection2DArray")
        for number in range(count):
            frame = bag_frame(number).frame
            writer.write(TOPICS.camera_info, messages.camera_info_message(frame), number)
            writer.write(TOPICS.image, messages.image_message(frame), number)
    found = list(read_frames(tmp_path / "bag"))
    assert [f.frame.stamp_ns - 10**18 for f in found] == list(range(count))
    assert all(f.detections == () for f in found)


def test_missing_topics_are_named_with_those_there_are(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/other", messages.image_message(bag_frame(0).frame), 0)
    with pytest.raises(BagError, match=r"bag.*expected topic /camera/image_raw.*has: /other"):
        list(read_frames(tmp_path / "bag"))


def test_no_calibration_is_an_error_naming_the_topic(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.declare(TOPICS.camera_info, "sensor_msgs/msg/CameraInfo")
        writer.write(TOPICS.image, messages.image_message(bag_frame(0).frame), 0)
    with pytest.raises(BagError, match="/camera/camera_info"):
        list(read_frames(tmp_path / "bag"))


def test_a_damaged_message_is_named_by_file_and_topic(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.write_frame(bag_frame(0), TOPICS)
        writer.write_raw(RawMessage(TOPICS.detections, "vision_msgs/msg/Detection2DArray", 2 * 10**18, b"\0\1\0\0abc"))
    with pytest.raises(BagError, match=r"bag: topic /detections: message at 2000000000000000000 ns is damaged"):
        list(read_frames(tmp_path / "bag"))


def test_impossible_values_are_named_by_file_and_topic(tmp_path):
    message = messages.image_message(bag_frame(0).frame)
    message.encoding = "yuv"
    with BagWriter(tmp_path / "bag") as writer:
        writer.write_frame(bag_frame(1), TOPICS)
        writer.write(TOPICS.image, message, 0)
    with pytest.raises(BagError, match=r"bag: topic /camera/image_raw: .*yuv"):
        list(read_frames(tmp_path / "bag"))


def test_truncated_bags_never_fail_otherwise_than_by_bag_error(bag):
    file = next(bag.glob("*.mcap"))
    whole = file.read_bytes()
    for keep in np.linspace(0, len(whole) - 1, 60).astype(int):
        file.write_bytes(whole[:keep])
        with pytest.raises(BagError, match="bag"):
            list(read_frames(bag))


def test_scrambled_bags_never_fail_otherwise_than_by_bag_error(bag):
    file = next(bag.glob("*.mcap"))
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(60):
        scrambled = whole.copy()
        scrambled[rng.integers(0, len(whole), 40)] = rng.integers(0, 256, 40)
        file.write_bytes(scrambled.tobytes())
        with suppress(BagError):  # anything else fails the test
            list(read_frames(bag))
            passed += 1
    assert passed < 50


@pytest.mark.parametrize("text", ["", "[1, 2]", "rosbag2_bagfile_information: {}", "{{{"])
def test_broken_metadata_is_a_bag_error(bag, text):
    (bag / "metadata.yaml").write_text(text)
    with pytest.raises(BagError, match="cannot open"):
        list(read_frames(bag))


def test_a_missing_bag_is_a_bag_error(tmp_path):
    with pytest.raises(BagError, match="no such bag"):
        list(read_frames(tmp_path / "none"))


def test_unknown_message_types_cannot_be_written(tmp_path):
    with (
        pytest.raises(BagError, match="/x: no definition of message type nav_msgs/msg/Nonsense"),
        BagWriter(tmp_path / "bag") as writer,
    ):
        writer.declare("/x", "nav_msgs/msg/Nonsense")
    assert not list(tmp_path.iterdir())


def test_answers_and_diagnostics_are_read_from_a_recording(tmp_path):
    types = ros_types().types
    pair = types["diagnostic_msgs/msg/KeyValue"](key="latency_ms/total", value="12.5")
    status = types["diagnostic_msgs/msg/DiagnosticStatus"](
        level=1, name="pasr_node: pipeline", message="ok", hardware_id="", values=[pair]
    )
    array = types["diagnostic_msgs/msg/DiagnosticArray"](header=messages.header(3, ""), status=[status])
    item = bag_frame(4)
    with BagWriter(tmp_path / "rec") as writer:
        answer = messages.truths_message(item.truths, item.frame.stamp_ns, "cam")
        writer.write("/pasr_node/objects", answer, 50)
        writer.write("/diagnostics", array, 60)
    (published,) = read_published(tmp_path / "rec")
    assert (published.stamp_ns, published.log_ns) == (item.frame.stamp_ns, 50)
    assert published.objects[0].hypotheses[0].mesh_id == "mug"
    (found,) = read_statuses(tmp_path / "rec")
    assert (found.log_ns, found.name, found.level) == (60, "pasr_node: pipeline", 1)
    assert found.values == {"latency_ms/total": "12.5"}


def test_the_cameras_place_comes_back_with_its_frame(tmp_path):
    turn = Rotation.from_euler("xyz", [0.4, -1.1, 2.0]).as_matrix()
    placed = [replace(bag_frame(i), T_fixed_cam=make_T(turn, np.array([0.1 * i, -2.0, 3.0]))) for i in range(3)]
    write_frames(tmp_path / "bag", [*placed, bag_frame(3)])
    found = list(read_frames(tmp_path / "bag"))
    for given, item in zip(placed, found, strict=False):
        np.testing.assert_allclose(item.T_fixed_cam, given.T_fixed_cam, atol=1e-9)
    assert [item.T_fixed_cam is None for item in found] == [False, False, False, True]


def test_other_transforms_are_left_out(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        message = messages.camera_transform_message(np.eye(4), 10**18, "cam")
        message.transforms[0].header.frame_id = "base_link"
        writer.write(TOPICS.tf, message, 10**18)
        writer.write_frame(bag_frame(0), TOPICS)
    (item,) = read_frames(tmp_path / "bag")
    assert item.T_fixed_cam is None


def test_topics_lists_types(bag):
    with BagReader(bag) as reader:
        assert reader.topics[TOPICS.detections] == "vision_msgs/msg/Detection2DArray"
        assert {m.topic for m in reader.raw([TOPICS.truth])} == {TOPICS.truth}


def test_zero_sized_calibration_takes_the_images_size(tmp_path):
    item = bag_frame(0)
    camera = replace(item.frame.camera, width=0, height=0)
    write_frames(tmp_path / "bag", [replace(item, frame=replace(item.frame, camera=camera))])
    (found,) = read_frames(tmp_path / "bag")
    assert (found.frame.camera.width, found.frame.camera.height) == (50, 40)
