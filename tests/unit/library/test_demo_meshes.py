from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from pasr_perception.library import demo_meshes
from pasr_perception.library.demo_catalogue import (
    MAX_MEMBER_BYTES,
    metres_per_unit,
    model_files,
    parse_properties,
    read_catalogue,
    up_axis,
)
from pasr_perception.library.demo_meshes import FetchError, fetch_demo
from pasr_perception.library.demo_selection import SELECTION, category_of
from pasr_perception.library.manifest import sources_from_paths
from pasr_perception.library.meshes import has_colour, load_mesh

BOX = """mtllib sub/colours.mtl
v 0 0 0
v 2 0 0
v 2 4 0
v 0 4 1
usemtl red
f 1 2 3
f 1 3 4
"""
COLOURS = "newmtl red\nKd 1 0 0\nmap_Kd pictures/red dot.png\n"
CATALOGUE = """# comment
name=Blend Swap CC-0
license=Public domain

id#1=Blend Swap CC-0#desklamp
name#1=Desk lamp
model#1=/models/lamp/lamp.obj
width#1=20
height#1=40
depth#1=10
creator#1=Jos\\u00e9

id#2=Blend Swap CC-0#turned
name#2=Office chair
model#2=/models/lamp/lamp.obj
width#2=20
height#2=10
depth#2=40
modelRotation#2=1 0 0 0 0 -1 0 1 0

id#3=Blend Swap CC-0#gone
name#3=Gone
model#3=/models/none.obj
width#3=1
height#3=1
depth#3=1

id#4=Blend Swap CC-0#light
name#4=Light source
model#4=/models/light.obj
width#4=1
height#4=1
depth#4=1
"""
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415478da63f8cfc0000003010100f7035db90000000049454e44ae426082"
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "BlendSwap-CC-0.sh3f"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("PluginFurnitureCatalog.properties", CATALOGUE.encode("latin-1"))
        z.writestr("PluginFurnitureCatalog_fr.properties", "name#1=Lampe")
        z.writestr("models/lamp/lamp.obj", BOX)
        z.writestr("models/lamp/sub/colours.mtl", COLOURS)
        z.writestr("models/lamp/pictures/red dot.png", PNG)
        z.writestr("models/lamp/sub/pictures/other.png", PNG)
        z.writestr("models/lamp/LICENSE.txt", "CC0")
        z.writestr("models/light.obj", "v 0 0 0\n")
    return path


def test_properties_format() -> None:
    text = "! note\n# a=1\n key = a b \\\n   c\nu=\\u00e9\\:x\nbad line\n"
    assert parse_properties(text) == {"key": "a b c", "u": "é:x"}


def test_catalogue_gives_models_that_are_there(archive: Path) -> None:
    items = read_catalogue(archive)
    assert [i.id for i in items] == ["desklamp", "turned", "light"]
    lamp = items[0]
    assert (lamp.licence, lamp.creator, lamp.name) == ("CC0-1.0", "José", "Desk lamp")
    np.testing.assert_allclose(lamp.size, [0.2, 0.4, 0.1])


def test_scale_and_up_follow_the_catalogue(archive: Path) -> None:
    lamp, turned, _ = read_catalogue(archive)
    assert metres_per_unit(lamp, np.array([2.0, 4.0, 1.0])) == pytest.approx(0.1)
    assert metres_per_unit(turned, np.array([2.0, 4.0, 1.0])) == pytest.approx(0.1)
    assert up_axis(lamp) == "+y"
    assert up_axis(turned) == "-z"  # the rotation's second row: the catalogue's y is minus the model's z


def test_a_flat_side_does_not_spoil_the_scale(archive: Path) -> None:
    assert metres_per_unit(read_catalogue(archive)[0], np.array([2.0, 4.0, 0.0])) == pytest.approx(0.1)


def test_model_files_lie_in_one_folder_and_find_each_other(archive: Path, tmp_path: Path) -> None:
    files = model_files(read_catalogue(archive)[0])
    assert set(files) == {"lamp.obj", "colours.mtl", "red dot.png", "LICENSE.txt"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    mesh = load_mesh(tmp_path / "lamp.obj")
    np.testing.assert_allclose(mesh.extents, [2, 4, 1])
    assert has_colour(mesh)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.sh3f"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("PluginFurnitureCatalog.properties", b"#" * (MAX_MEMBER_BYTES + 1))
    with pytest.raises(ValueError, match="more than"):
        read_catalogue(path)


def test_fetching_all_writes_a_manifest_that_reads_back(archive: Path, tmp_path: Path) -> None:
    fetched = fetch_demo(tmp_path / "demo", everything=True, files=[archive])
    assert fetched.meshes == 2
    assert len(fetched.skipped) == 1
    assert fetched.skipped[0].startswith("light")
    assert not (tmp_path / "demo" / "light").exists()
    lamp, turned = sources_from_paths([tmp_path / "demo"])
    assert (lamp.id, lamp.category, lamp.licence, lamp.creator) == ("desklamp", "lamp", "CC0-1.0", "José")
    assert (turned.id, turned.category, turned.up, turned.pose_set) == ("turned", "chair", "-z", "upright")
    np.testing.assert_allclose(load_mesh(lamp.path, lamp.unit).extents, [0.2, 0.4, 0.1], rtol=1e-5)
    with pytest.raises(FetchError, match="exists already"):
        fetch_demo(tmp_path / "demo", everything=True, files=[archive])


def test_models_of_one_name_get_ids_of_their_own(archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "Scopia.sh3f"
    other.write_bytes(archive.read_bytes())
    fetch_demo(tmp_path / "demo", everything=True, files=[other, archive])
    ids = [e["id"] for e in yaml.safe_load((tmp_path / "demo/manifest.yaml").read_text())["meshes"]]
    assert ids == ["desklamp", "turned", "desklamp-Scopia", "turned-Scopia"]


def test_a_selection_with_gaps_is_said(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="47 of the selected models are not in these files"):
        fetch_demo(tmp_path / "demo", files=[archive])
    assert not (tmp_path / "demo").exists()


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="no such file"):
        fetch_demo(tmp_path / "demo", files=[tmp_path / "none.deb"])
    (tmp_path / "bad.sh3f").write_bytes(b"not a zip")
    with pytest.raises(FetchError, match=r"bad\.sh3f: is not a readable"):
        fetch_demo(tmp_path / "demo", files=[tmp_path / "bad.sh3f"])
    (tmp_path / "bad.deb").write_bytes(b"not a deb")
    with pytest.raises(FetchError, match=r"bad\.deb could not be unpacked"):
        fetch_demo(tmp_path / "demo", files=[tmp_path / "bad.deb"])


def test_without_apt_the_steps_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_meshes.shutil, "which", lambda name: None)
    with pytest.raises(FetchError, match=r"no apt-get.*apt-get download sweethome3d-furniture.*--from-deb"):
        fetch_demo(tmp_path / "demo")


def test_without_package_lists_the_steps_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_meshes.shutil, "which", lambda name: f"/usr/bin/{name}")
    calls = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 100, "", "E: No packages found")

    monkeypatch.setattr(demo_meshes.subprocess, "run", run)
    with pytest.raises(FetchError, match=r"sudo apt-get update"):
        fetch_demo(tmp_path / "demo")
    assert calls == [["apt-cache", "show", "sweethome3d-furniture"]]


def test_the_selection_is_wide_enough() -> None:
    assert len(SELECTION) >= 44
    sizes = [list(SELECTION.values()).count(c) for c in set(SELECTION.values())]
    assert len(sizes) >= 9
    assert sum(n >= 3 for n in sizes) >= 6  # look-alikes to tell apart


def test_categories_from_names() -> None:
    names = ["Office chair", "Pendant lamp", "Washing machine", "Coffee cup", "Qwerty", "Armchair"]
    assert [category_of(n) for n in names] == ["chair", "lamp", "object", "cup", "object", "armchair"]
