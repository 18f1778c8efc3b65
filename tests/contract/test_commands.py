"""The commands that README and CI tell people to run exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, code

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
HELP = "import sys; from pasr_perception.cli import main; sys.argv = ['pasr', *sys.argv[1:], '--help']; main()"


def pasr_commands() -> list[str]:
    """`library build`, `detect`, …: each `pasr` command in the documents, without its arguments."""
    found = set()
    for path in filter(Path.is_file, DOCUMENTS):
        for words in re.findall(r"(?:^|bin/|\s)pasr ((?:[a-z][a-z-]+(?: |$))+)", code(path), re.MULTILINE):
            names = words.split()
            found.add(
                " ".join(names[: 2 if names[0] in ("library", "bag", "encoder", "data", "evaluate", "train") else 1])
            )
    return sorted(found)


def test_makefile_has_the_promised_targets():
    assert {"setup", "demo", "real", "test", "test-unit", "lint", "format", "clean"} <= TARGETS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_in_documents_exist(path):
    used = {word for line in re.findall(r"\bmake ([a-z][a-z -]*)", code(path)) for word in line.split()}
    assert used <= TARGETS


def test_readme_shows_the_two_commands():
    assert {"make demo", "make test"} <= set(re.findall(r"make [a-z]+", code(ROOT / "README.md")))


@pytest.mark.parametrize("command", pasr_commands())
def test_pasr_command_in_documents_exists(command):
    call = [sys.executable, "-c", HELP, *shlex.split(command)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert f"pasr {command}" in done.stdout


def test_ci_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script
    assert "make lint" in script


@pytest.mark.parametrize("script", [".ci/run", "scripts/setup.sh", "scripts/env.sh", "docker/entrypoint.sh"])
def test_shell_script_parses(script):
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def test_setup_refuses_an_unknown_source_of_ros():
    call = ["bash", "scripts/setup.sh"]
    done = subprocess.run(call, cwd=ROOT, env={**os.environ, "PASR_ROS": "docker"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "PASR_ROS: expected auto, apt or wheels, got 'docker'" in done.stderr


def test_make_real_says_why_it_skips(tmp_path):
    script = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^real:.*?(?=^\S)", script, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "Makefile").write_text(f"setup:\n{recipe}")
    done = subprocess.run(["make", "-s", "real", "REAL_DATA=nowhere"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "skipped" in done.stdout
    assert "nowhere" in done.stdout
