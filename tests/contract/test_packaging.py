"""The manifests of pip and colcon describe the same package, and colcon takes it for an ament_python one."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import pasr_perception

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "ros2_ws" / "src" / "pasr_perception"
LINKED = ("pasr_perception", "launch", "config", "tests")
READ_SETUP_PY = """
import json, runpy, setuptools
setuptools.setup = lambda **keywords: print(json.dumps(keywords))
runpy.run_path("setup.py")
"""


@pytest.fixture(scope="module")
def setup_py() -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    done = subprocess.run(
        [sys.executable, "-c", READ_SETUP_PY], cwd=MANIFEST, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def package_xml() -> ET.Element:
    return ET.parse(MANIFEST / "package.xml").getroot()


def defined_names(source: str) -> set[str]:
    """Top-level functions, imports and assignments of a module."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


def test_all_manifests_carry_one_version(setup_py, pyproject, package_xml):
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pasr_perception.__version__"}
    assert package_xml.findtext("version") == pasr_perception.__version__
    assert setup_py["version"] == pasr_perception.__version__
    assert f"## {pasr_perception.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_manifests_agree_on_name_licence_and_maintainer(setup_py, pyproject, package_xml):
    assert package_xml.findtext("name") == setup_py["name"] == pyproject["project"]["name"].replace("-", "_")
    assert package_xml.findtext("license") == setup_py["license"] == pyproject["project"]["license"]
    address = package_xml.find("maintainer").get("email")
    assert setup_py["maintainer_email"] == address
    # catkin_pkg's own rule; an address it refuses turns the package into a plain `python` one without a word
    assert re.fullmatch(
        r"[-a-zA-Z0-9_%+]+(\.[-a-zA-Z0-9_%+]+)*@[-a-zA-Z0-9%]+(\.[-a-zA-Z0-9%]+)*\.[a-zA-Z]{2,}", address
    )


def test_colcon_sees_one_ament_python_package():
    pytest.importorskip("colcon_ros")
    command = [sys.executable, "-m", "colcon", "--log-base", "/dev/null", "list", "--base-paths", str(ROOT / "ros2_ws")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    listed = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(name, kind) for name, _, kind in listed] == [("pasr_perception", "(ros.ament_python)")]


@pytest.mark.parametrize("name", LINKED)
def test_manifest_folder_links_to_the_real_folders(name):
    link = MANIFEST / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name
    assert link.is_dir()


def test_every_folder_with_modules_is_a_package(setup_py):
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "pasr_perception").rglob("*.py")}
    assert set(setup_py["packages"]) == {".".join(folder.parts) for folder in folders}


@pytest.mark.parametrize("manifest", ["setup.py", "pyproject.toml"])
def test_console_scripts_point_at_functions(manifest, setup_py, pyproject):
    scripts = dict(line.split(" = ") for line in setup_py["entry_points"]["console_scripts"])
    if manifest == "pyproject.toml":
        scripts = pyproject["project"]["scripts"]
    assert "pasr" in scripts
    for target in scripts.values():
        module, function = target.split(":")
        path = ROOT / Path(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert function in defined_names(path.read_text()), target


def test_colcon_installs_every_launch_and_config_file(setup_py):
    installed = {Path(file) for _, files in setup_py["data_files"] for file in files}
    wanted = {Path("launch", path.name) for path in (ROOT / "launch").glob("*.launch.py")}
    wanted |= {Path("config", path.name) for path in (ROOT / "config").iterdir() if path.is_file()}
    assert {Path("launch/pasr.launch.py"), Path("config/pasr.yaml"), Path("config/pasr.rviz")} <= wanted
    assert wanted <= installed
    assert Path("resource/pasr_perception") in installed


def test_both_manifests_ship_every_data_file(setup_py, pyproject):
    theirs = dict(pyproject["tool"]["setuptools"]["package-data"])
    assert setup_py["package_data"] == {"": theirs.pop("*"), **theirs}
    patterns = [pattern for patterns in setup_py["package_data"].values() for pattern in patterns]
    shipped = {Path(pattern).suffix or pattern for pattern in patterns}
    kept = {
        path
        for path in (ROOT / "pasr_perception").rglob("*")
        if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
    }
    assert not [path for path in kept if path.suffix not in shipped and path.name not in shipped]


def test_colcon_test_would_run_pytest(setup_py):
    assert "pytest" in setup_py["extras_require"]["test"]
