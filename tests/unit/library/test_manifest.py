from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pasr_perception.library.manifest import (
    ManifestError,
    SourceDefaults,
    clean_id,
    parse_unit,
    read_manifest,
    sources_from_paths,
)


def put_mesh(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.creation.box().export(path)
    return path


def put_manifest(folder: Path, text: str) -> Path:
    put_mesh(folder / "a.stl")
    (folder / "manifest.yaml").write_text(text)
    return folder / "manifest.yaml"


def test_a_full_entry_is_read_as_written(tmp_path: Path) -> None:
    path = put_manifest(
        tmp_path,
        """
meshes:
  - {id: can, category: tin, path: a.stl, unit: mm, licence: CC0-1.0, creator: Ann, appearance: unknown,
     pose_set: upright, up: +z, symmetry: {continuous_axes: [[0, 0, 2]], center: [0, 0, 0.1]}}
""",
    )
    (source,) = read_manifest(path)
    assert (source.id, source.category, source.path) == ("can", "tin", tmp_path / "a.stl")
    assert (source.unit, source.licence, source.creator) == (0.001, "CC0-1.0", "Ann")
    assert (source.appearance, source.pose_set, source.up) == ("unknown", "upright", "+z")
    assert source.symmetry is not None
    assert source.symmetry.continuous_axes == ((0.0, 0.0, 1.0),)
    assert source.symmetry.center == (0.0, 0.0, 0.1)


def test_what_is_not_said_comes_from_the_defaults(tmp_path: Path) -> None:
    (source,) = read_manifest(
        put_manifest(tmp_path, "meshes: [{path: a.stl}]"), SourceDefaults(unit=0.01, category="tool", up="-x")
    )
    assert (source.id, source.category, source.unit, source.up) == ("a", "tool", 0.01, "-x")
    assert source.symmetry is None
    assert source.pose_set == "so3"


def test_symmetry_none_means_none(tmp_path: Path) -> None:
    (source,) = read_manifest(put_manifest(tmp_path, "meshes: [{path: a.stl, symmetry: none}]"))
    assert source.symmetry is not None
    assert source.symmetry.is_trivial


def test_json_and_a_bare_list_are_manifests_too(tmp_path: Path) -> None:
    put_mesh(tmp_path / "a.stl")
    (tmp_path / "list.json").write_text(json.dumps([{"path": "a.stl", "unit": "in"}]))
    assert sources_from_paths([tmp_path / "list.json"])[0].unit == 0.0254


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{path: a.stl, colour: red}", "colour"),
        ("{id: a}", "path"),
        ("{path: b.stl}", "a file that is there"),
        ("{path: ../a.stl}", "stays in the manifest's folder"),
        ("{path: /etc/hostname}", "stays in the manifest's folder"),
        ("{path: link.stl}", "no link out"),
        ("{path: a.stl, id: ../x}", "letters, digits"),
        ("{path: a.stl, id: .hidden}", "letters, digits"),
        ("{path: a.stl, id: 7}", "in quotes"),
        ("{path: a.stl, unit: league}", "league"),
        ("{path: a.stl, unit: -1}", "unit"),
        ("{path: a.stl, unit: .nan}", "unit"),
        ("{path: a.stl, unit: true}", "unit"),
        ("{path: a.stl, up: y}", "up"),
        ("{path: a.stl, pose_set: all}", "pose_set"),
        ("{path: a.stl, appearance: maybe}", "appearance"),
        ("{path: a.stl, category: ''}", "category"),
        ("{path: a.stl, symmetry: round}", "symmetry"),
        ("{path: a.stl, symmetry: {axes: []}}", "symmetry"),
        ("{path: a.stl, symmetry: {folds: [{axis: [0, 0, 1], n: 8}, {axis: [1, 0, 0], n: 8}]}}", "more than 24"),
        ("just text", "a mapping"),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, entry: str, said: str) -> None:
    folder = tmp_path / "in"
    path = put_manifest(folder, f"meshes:\n  - {{path: a.stl, id: fine}}\n  - {entry}\n")
    os.symlink(put_mesh(tmp_path / "outside.stl"), folder / "link.stl")
    with pytest.raises(ManifestError, match=said) as caught:
        read_manifest(path)
    assert f"{path}: meshes[1]" in str(caught.value)


@pytest.mark.parametrize("text", ["meshes: []", "meshes: 3", "things: [1]", "a: [", "", "!!python/object:os.system {}"])
def test_bad_manifests_are_named(tmp_path: Path, text: str) -> None:
    path = put_manifest(tmp_path, text)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(str(path))


def test_ids_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    path = put_manifest(tmp_path, "meshes: [{path: a.stl, id: Cup}, {path: a.stl, id: cup}]")
    with pytest.raises(ManifestError, match="also that of"):
        read_manifest(path)


def test_one_folder_of_files(tmp_path: Path) -> None:
    put_mesh(tmp_path / "my mug.stl")
    put_mesh(tmp_path / "bowl.off")
    (tmp_path / "notes.txt").write_text("not a mesh")
    sources = sources_from_paths([tmp_path])
    assert [(s.id, s.category) for s in sources] == [("bowl", "object"), ("my-mug", "object")]


def test_folders_in_a_folder_are_categories(tmp_path: Path) -> None:
    for name in ("cups/a.stl", "cups/b.stl", "jars/a.stl"):
        put_mesh(tmp_path / name)
    sources = sources_from_paths([tmp_path])
    assert [(s.id, s.category) for s in sources] == [("cups-a", "cups"), ("b", "cups"), ("jars-a", "jars")]


def test_a_folder_with_a_manifest_is_its_manifest(tmp_path: Path) -> None:
    put_manifest(tmp_path, "meshes: [{path: a.stl, id: only}]")
    put_mesh(tmp_path / "other.stl")
    assert [s.id for s in sources_from_paths([tmp_path])] == ["only"]


def test_files_given_twice_or_not_there_are_named(tmp_path: Path) -> None:
    path = put_mesh(tmp_path / "a.stl")
    with pytest.raises(ManifestError, match="also that of"):
        sources_from_paths([path, path])
    with pytest.raises(ManifestError, match="no such file or folder"):
        sources_from_paths([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="holds no mesh"):
        sources_from_paths([tmp_path / "empty"])
    with pytest.raises(ManifestError, match="no meshes were given"):
        sources_from_paths([])
    (tmp_path / "t.txt").write_text("")
    with pytest.raises(ManifestError, match="expected a mesh"):
        sources_from_paths([tmp_path / "t.txt"])


def test_units() -> None:
    np.testing.assert_allclose([parse_unit(u) for u in ("mm", "CM", "0.5", 2)], [0.001, 0.01, 0.5, 2.0])


def test_clean_id_always_gives_a_usable_id() -> None:
    assert clean_id("..") == "mesh"
    assert clean_id("Ünïcode häse") == "n-code-h-se"
    assert len(clean_id("x" * 500)) == 100
