"""Point the cmake exports of the ROS wheels at this environment's own Python and numpy headers.

The wheels were built in a manylinux image and their `*Config.cmake` files name that image's include folders
(`/opt/python/cp311-cp311/...`), which do not exist here. Run with the environment's own interpreter after every
(re)installation of a ROS wheel; running it again changes nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy as np

BUILD_PYTHON = r"/opt/python/cp3\d+-cp3\d+"
PYTHON_HEADERS = re.compile(BUILD_PYTHON + r"/include/python3\.\d+")
NUMPY_HEADERS = re.compile(BUILD_PYTHON + r"/lib/python3\.\d+/site-packages/numpy/(?:_core|core)/include")


def repoint(text: str, python_include: str, numpy_include: str) -> str:
    """Return `text` with the build image's header folders replaced by the given ones."""
    text = NUMPY_HEADERS.sub(lambda _: numpy_include, text)
    return PYTHON_HEADERS.sub(lambda _: python_include, text)


def main() -> int:
    """Rewrite every cmake file below `<environment>/share`; return the exit status."""
    python_include = sysconfig.get_paths()["include"]
    if not (Path(python_include) / "Python.h").is_file():
        print(
            f"Python.h not found in {python_include}: install Python's headers (Debian: python3-dev)", file=sys.stderr
        )
        return 1
    changed = 0
    for path in sorted((Path(sys.prefix) / "share").rglob("*.cmake")):
        before = path.read_text(encoding="utf-8")
        after = repoint(before, python_include, np.get_include())
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed += 1
    print(f"ROS wheels: {changed} cmake files repointed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
