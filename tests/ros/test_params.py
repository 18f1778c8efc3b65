"""Parameters: one per config field, described, checked by name, and listed in config/pasr.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy")

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter

from pasr_perception.config import ConfigError, PasrConfig
from pasr_perception.ros.params import NodeConfig, declare, declared_parameters

pytestmark = pytest.mark.ros
YAML = Path(__file__).parents[2] / "config" / "pasr.yaml"
README = Path(__file__).parents[2] / "README.md"


def flatten(group: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in group.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.fixture
def make_node(ros: rclpy.Context) -> Iterator[Any]:
    nodes: list[Node] = []

    def make(**overrides: Any) -> Node:
        given = [Parameter(name.replace("__", "."), value=value) for name, value in overrides.items()]
        nodes.append(Node("declares", context=ros, parameter_overrides=given))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def test_the_yaml_names_exactly_the_declared_parameters_with_their_defaults() -> None:
    document = yaml.safe_load(YAML.read_text())
    assert list(document) == ["/**"]
    in_file = dict(flatten(document["/**"]["ros__parameters"]))
    declared = {p.name: p.default for p in declared_parameters()}
    assert in_file == declared
    assert {n: type(v) for n, v in in_file.items()} == {n: type(v) for n, v in declared.items()}


def test_every_parameter_line_of_the_yaml_is_commented() -> None:
    lines = [line for line in YAML.read_text().splitlines() if ": " in line and not line.strip().startswith("#")]
    assert [line for line in lines if " # " not in line] == []


def test_descriptions_come_from_the_comments_beside_the_fields() -> None:
    described = {p.name: p.description for p in declared_parameters()}
    assert described["refine.steps"] == "of adamw; 0 turns refinement off"
    assert described["tf_prefix"].startswith("put before the child frames")
    assert [name for name, text in described.items() if len(text) < 10] == []


def test_defaults_give_the_default_configuration(make_node: Any) -> None:
    node = make_node()
    assert declare(node) == (NodeConfig(), PasrConfig())
    descriptor = node.describe_parameter("refine.steps")
    assert (descriptor.description, descriptor.read_only) == ("of adamw; 0 turns refinement off", False)
    assert descriptor.additional_constraints == "0 or more"


def test_constraints_are_the_rules_that_the_dataclasses_check() -> None:
    rules = {p.name: p.constraints for p in declared_parameters()}
    assert rules["sync_queue"] == "1 to 1000"
    assert rules["sync_slop_s"] == "more than 0, at most 10 s"
    assert rules["image_transport"] == "raw or compressed"
    assert rules["refine.unknowns"] == "3, 5 or 6"
    assert rules["tf_prefix"] == rules["publish_tf"] == ""


def test_ranges_are_what_the_dataclasses_accept() -> None:
    bounds = {p.name: p.bounds for p in declared_parameters()}
    assert bounds["sync_queue"] == (1, 1000)
    assert bounds["sync_slop_s"] == (0.0, 10.0)
    assert bounds["refine.unknowns"] == (3, 6)
    assert bounds["confidence.accept"] == (0.0, 1.0)
    assert bounds["refine.steps"] == (0, 2**63 - 1)
    assert bounds["coarse.per_mesh"] == (1, 2**63 - 1)  # up to top_k, which may change
    assert bounds["tf_prefix"] is bounds["publish_tf"] is None


def test_a_value_out_of_range_is_refused_in_words(make_node: Any) -> None:
    node = make_node()
    declare(node)
    described = node.describe_parameter("sync_queue").integer_range[0]
    assert (described.from_value, described.to_value) == (1, 1000)
    for name, value in (("sync_queue", 1001), ("sync_slop_s", 10.5), ("refine.steps", -1)):
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful
        assert name in result.reason
        assert "range" in result.reason
        assert str(value) in result.reason
    (result,) = node.set_parameters([Parameter("sync_slop_s", value=10)])  # a whole number still stands for a float
    assert result.successful


def test_the_readme_lists_exactly_the_declared_parameters_with_their_defaults() -> None:
    rows = re.findall(r"^\| `([a-z_.0-9]+)` \| (\w+) \| `(.*?)` \|", README.read_text(), re.MULTILINE)
    kinds = {"string": str, "bool": bool, "int": int, "double": float}
    in_readme = {name: (kinds[kind], yaml.safe_load(default)) for name, kind, default in rows}
    assert in_readme == {p.name: (type(p.default), p.default) for p in declared_parameters()}


def test_overrides_reach_the_dataclasses_and_whole_numbers_pass_as_floats(make_node: Any) -> None:
    node_config, config = declare(make_node(library="/lib", sync_slop_s=1, refine__steps=7, encoder__name="dinov2"))
    assert (node_config.library, node_config.sync_slop_s) == ("/lib", 1.0)
    assert (config.refine.steps, config.encoder.name) == (7, "dinov2")
    assert config.coarse == PasrConfig().coarse


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"refine__steps": "many"}, r"refine\.steps: expected int, got 'many'"),
        ({"refine__steps": -1}, r"refine\.steps: expected 0 or more, got -1"),
        ({"coarse__top_k": 2.5}, r"coarse\.top_k: expected int, got 2\.5"),
        ({"image_transport": "theora"}, "image_transport: expected raw or compressed, got 'theora'"),
        ({"sync_slop_s": 0.0}, r"sync_slop_s: expected more than 0, at most 10 s, got 0\.0"),
        ({"sync_queue": 0}, "sync_queue: expected 1 to 1000, got 0"),
        ({"publish_tf": 1}, "publish_tf: expected bool, got 1"),
        ({"library": 5}, "library: expected str, got 5"),
        ({"marker_lifetime_s": float("nan")}, "marker_lifetime_s: expected 0 or more, got nan"),
    ],
)
def test_a_bad_value_fails_by_name(make_node: Any, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        declare(make_node(**overrides))


def test_an_unknown_parameter_is_named_with_the_nearest_known_one(
    make_node: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    declare(make_node(refine__step=3, use_sim_time=False))
    said = capfd.readouterr()
    text = said.out + said.err
    assert "'refine.step' is given but this node has no such parameter; did you mean 'refine.steps'?" in text
    assert "use_sim_time" not in text
