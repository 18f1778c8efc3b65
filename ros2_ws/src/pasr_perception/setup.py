"""colcon's manifest of the package (pip's is pyproject.toml at the root); both read the version from the package."""

import re
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = "pasr_perception"
VERSION = re.search(r'^__version__ = "(.+)"$', Path(NAME, "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)[1]
DATA = ["**/*.safetensors", "**/*.html", "**/*.j2", "**/*.xml", "**/*.yaml", "py.typed"]

setup(
    name=NAME,
    version=VERSION,
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={"": DATA, f"{NAME}.data": ["msg/*/*.msg"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{NAME}/config", sorted(p for p in glob("config/*") if Path(p).is_file())),
        (f"share/{NAME}/config/sros2", sorted(glob("config/sros2/*.xml"))),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},  # without it `colcon test` runs nothing and succeeds
    zip_safe=False,
    maintainer="PASR perception maintainers",
    maintainer_email="maintainers@pasr-perception.example.org",
    description="Which mesh of a library is this, and where is it in 6-DoF, from one camera image and 2D detections.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "pasr = pasr_perception.cli:main",
            "pasr_node = pasr_perception.ros.__main__:main",
        ],
    },
)
