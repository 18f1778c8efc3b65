"""The Docker files, read instead of built: they name what exists, start what the package has, and keep hadolint's rules."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pasr_perception.cli.bag import bag_app

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker"
README = (FOLDER / "README.md").read_text()
INSIDE = "/opt/pasr"  # where the image has the checkout


def instructions(text: str) -> list[tuple[str, str]]:
    """(keyword, rest) of a Dockerfile, comments left out, continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


DOCKERFILE = instructions((FOLDER / "Dockerfile").read_text())
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def every(keyword: str) -> list[str]:
    return [rest for word, rest in DOCKERFILE if word == keyword]


def arguments() -> dict[str, str]:
    """The build arguments and their defaults."""
    return {name: default.strip('"') for name, _, default in (rest.partition("=") for rest in every("ARG"))}


def copied() -> list[str]:
    return [source for rest in every("COPY") for source in rest.split()[:-1]]


def launch_arguments() -> set[str]:
    for node in ast.parse((ROOT / "launch" / "pasr.launch.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "ARGUMENTS":
            return {ast.literal_eval(key) for key in node.value.keys}
    raise AssertionError("pasr.launch.py has no ARGUMENTS")


def variables() -> dict[str, str]:
    """What the compose file takes from the environment, with the defaults."""
    text = (FOLDER / "compose.yaml").read_text()
    return dict(re.findall(r"\$\{(\w+):-(.*?)\}", text))


def test_the_parser_joins_lines_and_skips_comments() -> None:
    assert instructions("# a\nRUN one \\\n  # why\n  && two\nUSER me\n") == [("RUN", "one && two"), ("USER", "me")]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(FOLDER / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_is_a_release_of_ros_jazzy() -> None:
    assert every("FROM") == ["${ROS_IMAGE}"]
    assert re.fullmatch(r"ros:jazzy-[a-z-]+-noble", arguments()["ROS_IMAGE"])


def test_every_build_argument_is_used_and_explained() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    for name in arguments():
        assert f"${{{name}}}" in text
        assert f"| `{name}` |" in README


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert copied()[-1] == "."
    for source in copied()[:-1]:
        assert (ROOT / source).exists(), source
        parents = [str(p) for p in (Path(source), *Path(source).parents)]
        assert not [p for p in parents for rule in ignored if fnmatch(p, rule)], source


def test_the_first_layers_hold_what_set_up_reads() -> None:
    reads = re.findall(r"ros2_ws/interfaces|requirements/constraints|pyproject\.toml|scripts/\w+\.py", setup_script())
    assert reads
    for name in {*reads, "scripts/setup.sh", "README.md", "LICENSE", "pasr_perception/__init__.py"}:
        assert any(name == source or name.startswith(f"{source}/") for source in copied()[:-1]), name


def setup_script() -> str:
    return (ROOT / "scripts" / "setup.sh").read_text()


def test_large_and_private_folders_stay_out() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "out", "lib", "bags", "weights"} <= set(ignored)


@pytest.mark.parametrize("run", every("RUN"))
def test_apt_installs_little_and_leaves_nothing(run: str) -> None:
    installs = [part for part in run.split("&&") if "apt-get install" in part]
    assert all({"--yes", "--no-install-recommends"} <= set(part.split()) for part in installs)
    if installs or "rosdep install" in run:
        assert run.index("apt-get update") < run.index("install")
        assert "rm -rf /var/lib/apt/lists/*" in run
    if "rosdep install" in run:  # it calls apt-get itself
        assert run.index('APT::Install-Recommends "false"') < run.index("rosdep install")
    assert "sudo" not in run.split()


@pytest.mark.parametrize("run", every("RUN"))
def test_pip_installs_releases_and_keeps_no_cache(run: str) -> None:
    if "pip install" not in run:
        return
    wanted = run.partition("pip install")[2].partition("&&")[0].split()
    assert "--no-cache-dir" in wanted
    assert all("==" in word for word in wanted if not word.startswith("-"))


def test_failing_pipes_fail_the_build_and_folders_are_absolute() -> None:
    assert json.loads(every("SHELL")[0]) == ["/bin/bash", "-euo", "pipefail", "-c"]
    assert every("WORKDIR") == [INSIDE]
    assert every("ADD") == []


def test_the_processes_are_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", every("USER")[-1])
    assert variables()["PASR_USER"] == every("USER")[-1]


def test_the_entry_point_is_a_script_that_can_be_run() -> None:
    entry = json.loads(every("ENTRYPOINT")[0])
    script = ROOT / Path(entry[0]).relative_to(INSIDE)
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith('exec "$@"')
    for path in re.findall(rf"{INSIDE}/([\w./]+)", script.read_text()):
        assert (ROOT / path).exists() or path.startswith("ros2_ws/install/")


def test_files_named_in_the_image_exist() -> None:
    for path in re.findall(rf"{INSIDE}/([\w./]+)", (FOLDER / "Dockerfile").read_text()):
        assert (ROOT / path).exists()


def test_compose_builds_from_the_dockerfile_with_its_arguments() -> None:
    assert set(SERVICES) == {"node", "node-gpu", "player"}
    for name in ("node", "node-gpu"):
        build = SERVICES[name]["build"]
        context = FOLDER / build["context"]
        assert context.resolve() == ROOT
        assert context / build["dockerfile"] == context / "docker/Dockerfile"
        assert set(build["args"]) <= set(arguments())
    assert SERVICES["node-gpu"]["build"]["args"]["TORCH"] == "pip"
    assert variables()["ROS_IMAGE"] == arguments()["ROS_IMAGE"]
    assert variables()["PYTORCH3D"] == arguments()["PYTORCH3D"]


def test_no_image_is_called_latest() -> None:
    images = [variables()["PASR_PLAYER_IMAGE"], *(SERVICES[n]["image"] for n in ("node", "node-gpu"))]
    assert all(re.fullmatch(r"[\w.-]+:(?!latest)[\w.-]+", image) for image in images)
    assert images[0] in images[1:]


def test_every_variable_of_compose_is_explained() -> None:
    table = README.partition("Compose reads")[2]
    assert {name for name in variables() if f"`{name}`" not in table} == set()
    assert set(re.findall(r"\$\{?(\w+)", (FOLDER / "compose.yaml").read_text())) == set(variables())


@pytest.mark.parametrize(
    "command", [json.loads(every("CMD")[0]), SERVICES["node"]["command"]], ids=["image", "compose"]
)
def test_the_node_is_launched_with_arguments_that_the_launch_file_has(command: list[str]) -> None:
    assert command[:4] == ["ros2", "launch", "pasr_perception", "pasr.launch.py"]
    given = dict(word.split(":=") for word in command[4:])
    assert set(given) <= launch_arguments()
    assert given["library"] in [volume.rsplit(":", 2)[1] for volume in SERVICES["node"]["volumes"]]


def test_both_nodes_run_the_same_command() -> None:
    assert SERVICES["node"]["command"] == SERVICES["node-gpu"]["command"]


def test_the_player_plays_what_is_mounted_by_options_that_exist() -> None:
    player = SERVICES["player"]
    assert player["command"][:3] == ["pasr", "bag", "play"]
    assert player["command"][3] in [volume.rsplit(":", 2)[1] for volume in player["volumes"]]
    described = CliRunner().invoke(bag_app, ["play", "--help"], env={"COLUMNS": "200"}).output
    assert [word for word in player["command"] if word.startswith("--") and word not in described] == []


def test_node_and_player_share_network_memory_and_user() -> None:
    shared = [{key: service[key] for key in ("network_mode", "ipc", "user")} for service in SERVICES.values()]
    assert shared == [shared[0]] * 3
    assert (shared[0]["network_mode"], shared[0]["ipc"]) == ("host", "host")


def test_containers_change_nothing_outside() -> None:
    for service in SERVICES.values():
        assert all(volume.endswith(":ro") for volume in service["volumes"])
        assert not service.get("privileged", False)
