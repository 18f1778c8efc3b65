"""library.json and the journal beside it: what is read, what is refused, and every state that a crash can leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pasr_perception.library.files import LibraryError
from pasr_perception.library.listing import append_entries, read_listing, write_listing
from pasr_perception.library.store import LibraryWriter, MeshLibrary

BANK = {"bytes": 3, "sha256": "0" * 64, "meshes": "0" * 64}


def edit(library: Path, change: Callable[[dict[str, Any]], None]) -> None:
    raw = json.loads((library / "library.json").read_text())
    change(raw)
    (library / "library.json").write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(version=1), "format version 1"),
        (lambda r: r.update(format="zip"), "is not a mesh library"),
        (lambda r: r.pop("encoder"), "encoder is missing"),
        (lambda r: r["encoder"].update(dim="8"), "encoder.dim"),
        (lambda r: r["encoder"].update(dim=-1), "encoder_dim"),
        (lambda r: r["view"].update(fill=7), "fill"),
        (lambda r: r["render"].update(radius=0), "radius"),
        (lambda r: r.update(entries={}), "entries"),
        (lambda r: r["entries"][0].update(mesh="../cup.glb"), r"entries\[0\].mesh"),
        (lambda r: r["entries"][0].update(data="/etc/passwd"), r"entries\[0\].data"),
        (lambda r: r["entries"][0].update(id=".."), "id"),
        (lambda r: r["entries"][0].update(id="a/b"), "id"),
        (lambda r: r["entries"][0].update(colour=1), "colour"),
        (lambda r: r["entries"][0].pop("scale"), "scale is missing"),
        (lambda r: r["entries"][0].update(scale=0), "scale"),
        (lambda r: r["entries"][0].update(offset_std=float("nan")), "finite"),
        (lambda r: r["entries"][0].pop("offset_mean"), "offset_mean is missing"),
        (lambda r: r["entries"][0].update(center=[0, 1]), "center"),
        (lambda r: r["entries"][0].update(faces=1.5), "faces"),
        (lambda r: r["entries"][0].update(data_sha256="x"), "data_sha256"),
        (lambda r: r["entries"][0].update(symmetry={"folds": [1]}), "symmetry"),
        (lambda r: r["entries"].append(r["entries"][0]), "differ in more than case"),
        (lambda r: r.update(artefacts=[]), "artefacts"),
        (lambda r: r.update(artefacts={"../x": BANK}), "artefacts"),
        (lambda r: r.update(artefacts={"bank": BANK | {"bytes": 1.5}}), r"artefacts\.bank\.bytes"),
        (lambda r: r.update(artefacts={"bank": BANK | {"meshes": "1"}}), r"artefacts\.bank\.meshes"),
        (lambda r: r.update(artefacts={"bank": {}}), r"artefacts\.bank"),
    ],
)
def test_a_bad_list_is_named(library: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    edit(library, change)
    with pytest.raises(LibraryError, match=said) as caught:
        MeshLibrary.open(library)
    assert str(library / "library.json") in str(caught.value)
    assert "pasr library build" in str(caught.value) or "is not a mesh library" in str(caught.value)


def test_a_cut_list_is_named(library: Path) -> None:
    text = (library / "library.json").read_text()
    (library / "library.json").write_text(text[:100])
    with pytest.raises(LibraryError, match="is not readable JSON"):
        MeshLibrary.open(library)


def test_an_older_list_without_artefacts_is_read(library: Path) -> None:
    edit(library, lambda raw: raw.pop("artefacts"))
    assert len(MeshLibrary.open(library)) == 2


def ids(library: Path) -> list[str]:
    return [e.id for e in MeshLibrary.open(library).entries]


@pytest.fixture
def unfolded(parts: Any, library: Path) -> Path:
    """As a killed writer leaves a library after two more meshes and a changed offset."""
    writer = LibraryWriter.open(library)
    parts.add(writer, "jar")
    parts.add(writer, "pot")
    writer.replace_entries([parts.entry("mug", offset_mean=0.7)])
    writer._lock.close()
    assert [e["id"] for e in json.loads((library / "library.json").read_text())["entries"]] == ["cup", "mug"]
    assert len((library / "library.jsonl").read_text().splitlines()) == 4
    return library


def test_the_journal_counts(unfolded: Path) -> None:
    opened = MeshLibrary.open(unfolded)
    assert [e.id for e in opened.entries] == ["cup", "mug", "jar", "pot"]
    assert opened.entries[1].offset_mean == 0.7
    assert opened.verify() == []


def test_the_next_writer_folds_it(unfolded: Path) -> None:
    before = MeshLibrary.open(unfolded).listing
    LibraryWriter.open(unfolded).close()
    assert not (unfolded / "library.jsonl").exists()
    assert MeshLibrary.open(unfolded).listing == before


def test_closing_folds_it(parts: Any, library: Path) -> None:
    with LibraryWriter.open(library) as writer:
        parts.add(writer, "jar")
        assert (library / "library.jsonl").exists()
    assert not (library / "library.jsonl").exists()
    assert ids(library) == ["cup", "mug", "jar"]


@pytest.mark.parametrize("cut", [1, 40])
def test_a_torn_last_line_is_dropped(parts: Any, unfolded: Path, cut: int) -> None:
    journal = unfolded / "library.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    opened = MeshLibrary.open(unfolded)
    assert [e.id for e in opened.entries] == ["cup", "mug", "jar", "pot"]
    assert opened.entries[1].offset_mean == 0.1
    with LibraryWriter.open(unfolded) as writer:
        parts.add(writer, "can")
    assert ids(unfolded) == ["cup", "mug", "jar", "pot", "can"]


def test_every_cut_of_the_journal_leaves_whole_entries(unfolded: Path) -> None:
    content = (unfolded / "library.jsonl").read_bytes()
    for size in range(0, len(content), 97):
        (unfolded / "library.jsonl").write_bytes(content[:size])
        whole = max(content[:size].count(b"\n") - 1, 0)
        assert len(read_listing(unfolded).entries) == 2 + min(whole, 2), size


def test_a_journal_of_an_older_list_is_not_read(unfolded: Path) -> None:
    """The crash between the two steps of folding: library.json is new, the journal is still there."""
    journal = (unfolded / "library.jsonl").read_bytes()
    with LibraryWriter.open(unfolded) as writer:
        writer.remove("pot")
    (unfolded / "library.jsonl").write_bytes(journal)
    assert ids(unfolded) == ["cup", "mug", "jar"]
    with LibraryWriter.open(unfolded) as writer:
        writer.remove("jar")
    assert ids(unfolded) == ["cup", "mug"]


def test_a_damaged_line_is_named(unfolded: Path) -> None:
    journal = unfolded / "library.jsonl"
    journal.write_text(journal.read_text().replace('"unit": 0.01', '"unit": -1', 1))
    with pytest.raises(LibraryError, match=r"library\.jsonl: .*unit: expected") as caught:
        MeshLibrary.open(unfolded)
    assert "pasr library build" in str(caught.value)


def test_ids_in_the_journal_differ_in_more_than_case(parts: Any, library: Path) -> None:
    entry = MeshLibrary.open(library).entries[0]
    fields = {"id": "CUP", "mesh": "meshes/CUP.glb", "data": "data/CUP.safetensors"}
    append_entries(library, [type(entry)(**(vars(entry) | fields))], begin=True)
    with pytest.raises(LibraryError, match="differ in more than case"):
        read_listing(library)


def test_text_and_back(library: Path) -> None:
    listing = read_listing(library)
    write_listing(library, listing)
    assert read_listing(library) == listing
    assert json.loads((library / "library.json").read_text())["entries"][0]["id"] == "cup"
