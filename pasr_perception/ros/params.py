"""ROS parameters, declared from the config dataclasses: names, defaults, checks and descriptions have one source.

A nested field becomes a dotted name (`refine.steps`); its description is the comment beside the field.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import io
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from pasr_perception.config import ConfigError, LibraryConfig, PasrConfig, from_mapping
from pasr_perception.ros.ranges import accepted_range

BUILT_IN = ("use_sim_time", "start_type_description_service", "qos_overrides")  # every ROS node has these
# how a library is built, which the node reads from the library itself
NOT_THE_NODES = (LibraryConfig,)


@dataclass(frozen=True)
class NodeConfig:
    """What only the node has to know."""

    library: str = (
        ""  # folder of a mesh library made by `pasr library build`; required; ~/reload_library takes up changes
    )
    autostart: bool = True  # configure and activate at the start; false: a lifecycle manager does
    image_transport: str = "raw"  # raw: topic `image`; compressed: topic `image/compressed` (jpeg, png)
    tracking: bool = True  # follow objects over time and settle which mesh they are; false: each frame by itself
    fixed_frame: str = ""  # TF frame that stands still, for a camera that moves; empty: the camera's stands for it
    use_depth: bool = False  # take depth images from `depth`: 32FC1 [m] or 16UC1 [mm], registered to the image
    rectified: bool = False  # the image is rectified already: use P of camera_info and no distortion
    sync_slop_s: float = 0.02  # stamps of image, camera_info, detections and depth may differ by less than this [s]
    sync_queue: int = 30  # messages of each input kept while waiting for their partners
    publish_tf: bool = True  # publish the best pose of each object on /tf
    tf_prefix: str = ""  # put before the child frames `<mesh_id>_<object_id>`
    marker_lifetime_s: float = 0.0  # RViz drops a marker not renewed for this long [s]; 0 = when the object is gone
    debug_image: bool = True  # offer ~/debug_image; it is drawn only while someone listens
    complaint_period_s: float = 5.0  # the same complaint is logged at most once in this time [s]
    input_patience_s: float = 2.0  # say so after this long without a matching set of inputs, or on one frame [s]

    def __post_init__(self) -> None:
        _require(self.image_transport in ("raw", "compressed"), "image_transport", "raw or compressed", self)
        _require(0 < self.sync_slop_s <= 10, "sync_slop_s", "more than 0, at most 10 s", self)
        _require(1 <= self.sync_queue <= 1000, "sync_queue", "1 to 1000", self)
        _require(self.marker_lifetime_s >= 0, "marker_lifetime_s", "0 or more", self)
        _require(self.complaint_period_s >= 0, "complaint_period_s", "0 or more", self)
        _require(self.input_patience_s > 0, "input_patience_s", "more than 0", self)


@dataclass(frozen=True)
class Declared:
    """One parameter as ROS sees it."""

    name: str
    default: Any
    description: str
    constraints: str = ""  # the rule that the dataclass checks, in its own words
    bounds: tuple[float, float] | None = None  # what it takes lies between these, both included

    def descriptor(self, bounded: bool = True) -> ParameterDescriptor:
        """What `ros2 param describe` shows."""
        # dynamic typing lets `1` stand for `1.0`; the dataclass then checks the type, and names what is wrong
        descriptor = ParameterDescriptor(description=self.description, dynamic_typing=True)
        descriptor.additional_constraints = self.constraints
        if bounded and self.bounds is not None:
            low, high = self.bounds
            if isinstance(self.default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
            else:
                descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        return descriptor


def _require(rule: bool, name: str, expected: str, config: NodeConfig) -> None:
    if not rule:
        raise ConfigError(f"{name}: expected {expected}, got {getattr(config, name)!r}")


@functools.cache
def declared_parameters() -> tuple[Declared, ...]:
    """Every parameter of the node, in the order of the dataclasses."""
    return (*_flatten(NodeConfig(), ""), *_flatten(PasrConfig(), ""))


def declare(node: Node) -> tuple[NodeConfig, PasrConfig]:
    """Declare all parameters on `node` and return their values, checked.

    Raises ConfigError naming the parameter, what is expected and what came.
    """
    for parameter in declared_parameters():
        node.declare_parameter(parameter.name, parameter.default, parameter.descriptor(bounded=False))
    _warn_of_unknown(node)
    values = read(node, {})  # before the ranges are known, so that the dataclass says what is wrong
    for parameter in declared_parameters():
        node.set_descriptor(parameter.name, parameter.descriptor())
    return values


def read(node: Node, changes: Mapping[str, Any]) -> tuple[NodeConfig, PasrConfig]:
    """The declared parameters' values, with `changes` (by name) as if they were made already; ConfigError if unfit."""
    nested: dict[str, Any] = {}
    for parameter in declared_parameters():
        group = nested
        *path, leaf = parameter.name.split(".")
        for key in path:
            group = group.setdefault(key, {})
        name = parameter.name
        group[leaf] = changes[name] if name in changes else node.get_parameter(name).value
    node_keys = {f.name for f in dataclasses.fields(NodeConfig)}
    node_config = from_mapping(NodeConfig, {k: v for k, v in nested.items() if k in node_keys})
    return node_config, from_mapping(PasrConfig, {k: v for k, v in nested.items() if k not in node_keys})


def _warn_of_unknown(node: Node) -> None:
    """A parameter file may name what this node does not have; ROS would ignore it in silence."""
    known = [p.name for p in declared_parameters()]
    for name in getattr(node, "_parameter_overrides", {}):
        if name in known or name.split(".")[0] in BUILT_IN:
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        node.get_logger().warning(f"parameter {name!r} is given but this node has no such parameter{hint}")


def _flatten(config: Any, prefix: str) -> Iterator[Declared]:
    comments = _field_comments(type(config))
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        name = f"{prefix}{f.name}"
        if isinstance(value, NOT_THE_NODES):
            continue
        if dataclasses.is_dataclass(value):
            yield from _flatten(value, f"{name}.")
        else:
            uncommented = f"{f.name.replace('_', ' ')} of: {type(config).__doc__}"
            told = comments.get(f.name, uncommented), _rule(config, f.name)
            yield Declared(name, value, *told, accepted_range(config, f.name))


def _rule(config: Any, field: str) -> str:
    """What the dataclass says it expects of a field when it gets what no rule allows; empty if it takes anything."""
    value = getattr(config, field)
    impossible: dict[type, list[Any]] = {str: ["\0"], int: [-(10**9), 10**9], float: [float("nan"), -1e9, 1e9]}
    rules: list[str] = []
    for wrong in impossible.get(type(value), []):
        try:
            dataclasses.replace(config, **{field: wrong})
        except ConfigError as error:
            rule = str(error).partition(": expected ")[2].rpartition(", got ")[0]
            rules += [rule] if rule not in rules else []
    return "; ".join(rules)


@functools.cache
def _field_comments(cls: type) -> dict[str, str]:
    """The comment at the end of each field's line, by field name; empty where the source is not at hand."""
    try:
        source = inspect.getsource(cls)
    except OSError:
        return {}
    comments = (t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT)
    lines = ((t.line.split(":")[0].strip(), t.string.lstrip("# ").strip()) for t in comments)
    return {name: comment for name, comment in lines if name.isidentifier()}
