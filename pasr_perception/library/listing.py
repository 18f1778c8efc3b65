"""What a library holds, kept so that adding one mesh costs one line: library.json and a journal of what came after it.

library.jsonl begins with the checksum of the library.json that it follows; then comes one entry a line, new or in the place of
the one of the same id. A journal of another library.json is left over from a crash and is not read; nor is a torn last line.
A writer that closes folds the journal into library.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pasr_perception.library.files import (
    LibraryError,
    append_durably,
    check_regular,
    sha256_of,
    write_atomically,
)
from pasr_perception.library.format import Listing, MeshEntry
from pasr_perception.library.schema import (
    check_unique,
    entry_from_line,
    entry_to_json,
    listing_from_json,
    listing_to_text,
    to_line,
)

MANIFEST = "library.json"
JOURNAL = "library.jsonl"
MAX_BYTES = 2**31  # of each; a million meshes take about one


def read_listing(path: Path) -> Listing:
    """Header, entries and artefacts of the library in the folder `path`; raises LibraryError if they cannot be read.

    Artefacts may be of other meshes: see `Listing.fresh`.
    """
    if not (path / MANIFEST).exists():
        raise no_library(path)
    journal = _content(path, JOURNAL) if (path / JOURNAL).exists() else b""
    # The journal is read first: if a writer folds it meanwhile, the checksum differs and library.json holds it all.
    content = _content(path, MANIFEST)
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LibraryError(
            f"{path / MANIFEST}: is not readable JSON ({error}); build the library again with `pasr library build`"
        ) from error
    listing = listing_from_json(raw, str(path / MANIFEST))
    first, *lines = journal.split(b"\n")[:-1] or [b""]
    if first.decode(errors="replace") != _first_line(hashlib.sha256(content).hexdigest()):
        return listing
    where = str(path / JOURNAL)
    by_id = {e.id: e for e in listing.entries}
    for entry in (entry_from_line(line, where) for line in lines):
        by_id[entry.id] = entry  # in the place of the one of the same id, else at the end
    check_unique(tuple(by_id.values()), where)
    return replace(listing, entries=tuple(by_id.values()))


def write_listing(path: Path, listing: Listing) -> None:
    """Replace library.json in one step; the journal is part of it then, and goes."""
    text = listing_to_text(listing)
    write_atomically(path / MANIFEST, lambda p: p.write_text(text, encoding="utf-8"))
    (path / JOURNAL).unlink(missing_ok=True)


def append_entries(path: Path, entries: Iterable[MeshEntry], begin: bool) -> None:
    """Add lines to the journal (`begin`: to a new one). On LibraryError nothing has changed."""
    lines = [to_line(entry_to_json(e)) for e in entries]
    if begin:
        lines.insert(0, _first_line(sha256_of(path / MANIFEST)))
    append_durably(path / JOURNAL, "".join(f"{line}\n" for line in lines), begin)


def no_library(path: Path) -> LibraryError:
    how = f"make one with `pasr library build MESHES -o {path}`"
    return LibraryError(f"{path}: holds no mesh library (no {MANIFEST}); {how}")


def _first_line(digest: str) -> str:
    return to_line({"follows": digest})


def _content(path: Path, name: str) -> bytes:
    file = check_regular(path, name)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise LibraryError(f"{file}: {file.stat().st_size} bytes is more than a library's list can be")
        return file.read_bytes()
    except OSError as error:
        raise LibraryError(f"{file}: cannot be read ({error.strerror})") from error
