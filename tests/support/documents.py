"""The project's documents, and what of them is code: for tests that hold them against the project."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docker" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")


def code(path: Path) -> str:
    """Everything a document sets in code: fenced blocks and inline spans."""
    text = path.read_text()
    return "\n".join([*FENCED.findall(text), *INLINE.findall(FENCED.sub("", text))])


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return FENCED.sub("", path.read_text())
