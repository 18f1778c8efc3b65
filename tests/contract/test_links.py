"""Links between the documents lead somewhere: to a file, and to a heading of it where they name one."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from documents import DOCUMENTS, INLINE, ROOT, prose

LINKED = [*DOCUMENTS, ROOT / "CHANGELOG.md"]
SOURCES = sorted([*ROOT.glob("pasr_perception/**/*.py"), *ROOT.glob("config/*.yaml"), *ROOT.glob("scripts/*")])
NO_FILE = re.compile(r"https?:|mailto:")


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a document."""
    times: Counter[str] = Counter()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        times[re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")] += 1
    return {f"{name}-{i}" if i else name for name, count in times.items() for i in range(count)}


def broken(document: Path) -> list[str]:
    """The links of a document that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", INLINE.sub("", prose(document))):
        if NO_FILE.match(link):
            continue
        file, _, heading = link.partition("#")
        target = document.parent / file if file else document
        if not target.exists() or (heading and heading not in anchors(prose(target))):
            found.append(link)
    return found


def test_headings_are_named_as_github_names_them():
    text = "# Set-up, and `make demo`\n## [ADR 9](x.md): a bank\n## Again\n## Again\n## Again\n"
    assert anchors(text) == {"set-up-and-make-demo", "adr-9-a-bank", "again", "again-1", "again-2"}


def test_a_link_to_nowhere_is_found(tmp_path):
    (tmp_path / "there.md").write_text("# One\n")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md#one) [b](there.md#two) [c](gone.md) [d](https://x.org/y)\n```\n[e](gone.md)\n```\n")
    assert broken(page) == ["there.md#two", "gone.md"]


@pytest.mark.parametrize("document", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    assert broken(document) == []


def test_documents_that_sources_name_exist():
    named = {
        (file.name, name)
        for file in SOURCES
        if file.is_file()
        for name in re.findall(r"\b(?:docs|docker)/[\w./-]+\.(?:md|json|yaml)\b", file.read_text())
    }
    assert len(named) > 3
    assert [pair for pair in sorted(named) if not (ROOT / pair[1]).exists()] == []
