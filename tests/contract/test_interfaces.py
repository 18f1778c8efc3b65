"""The message definitions we build are the released ones: their DDS type hashes decide who may talk to whom."""

from __future__ import annotations

from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

ROOT = Path(__file__).resolve().parents[2]
INTERFACES = ROOT / "ros2_ws" / "interfaces"
# RIHS01 hashes of vision_msgs 4.1.1 and of tf2_msgs, computed from the released definitions
RELEASED = {
    "tf2_msgs/msg/TFMessage": "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
    "vision_msgs/msg/BoundingBox2DArray": "2464e82838009386d371b523211c21c91d74d313fcdd6788223c531d621cf691",
    "vision_msgs/msg/BoundingBox3DArray": "a81938db9576b10c2eecd7c5a5da3eac496efd00221b25ed051dfbc81fb56da6",
    "vision_msgs/msg/Classification": "f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
    "vision_msgs/msg/Detection2DArray": "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "vision_msgs/msg/Detection3DArray": "793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "vision_msgs/msg/LabelInfo": "3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "vision_msgs/msg/VisionInfo": "95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
}


@pytest.fixture(scope="module")
def types() -> Typestore:
    store = get_typestore(Stores.ROS2_JAZZY)
    definitions = {}
    for package in ("vision_msgs", "tf2_msgs"):
        for path in (INTERFACES / package / "msg").glob("*.msg"):
            definitions.update(get_types_from_msg(path.read_text(), f"{package}/msg/{path.stem}"))
    store.register({name: fields for name, fields in definitions.items() if name not in store.fielddefs})
    for name in definitions.keys() & {"tf2_msgs/msg/TFMessage"}:
        assert definitions[name] == store.fielddefs[name]
    return store


@pytest.mark.parametrize("name", RELEASED)
def test_type_hash_is_the_released_one(types, name):
    assert types.hash_rihs01(name) == f"RIHS01_{RELEASED[name]}"


@pytest.mark.ros
@pytest.mark.parametrize("name", RELEASED)
def test_installed_type_is_the_released_one(types, name):
    """Built by us or installed by apt: the Python class that nodes use has the same fields in the same order."""
    package, _, kind = name.split("/")
    messages = pytest.importorskip(f"{package}.msg")
    assert list(getattr(messages, kind).get_fields_and_field_types()) == [
        field for field, _ in types.fielddefs[name][1]
    ]


def test_plain_colcon_build_does_not_see_them():
    assert (INTERFACES / "COLCON_IGNORE").is_file()


def test_the_core_reads_the_same_files():
    assert (ROOT / "pasr_perception" / "data" / "msg" / "vision_msgs").resolve() == INTERFACES / "vision_msgs" / "msg"
