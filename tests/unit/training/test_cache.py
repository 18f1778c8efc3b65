"""The cache: what went in comes out, it goes on where it stopped, and what does not belong is refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from pasr_perception.library.build import library_header
from pasr_perception.library.files import LibraryError
from pasr_perception.training.cache import JOURNAL, ObservationCache, observe_all, shapes_of
from pasr_perception.training.dataset import MeshDataset
from pasr_perception.training.observe import ObserveConfig, Observer


@pytest.fixture
def copy(cache_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cache_path, tmp_path / "copy"))


def test_looks_come_back_as_they_were_observed(bench, cache: ObservationCache, observe_config: ObserveConfig) -> None:
    header = library_header(bench.encoder, bench.config)
    looks = Observer(bench.encoder, header.view, header.splat, observe_config).observe(bench.source("can"))
    back = cache.load(cache.meshes[1])
    assert len(back) == len(looks)
    for a, b in zip(looks, back, strict=True):
        assert a.cloud.known == b.cloud.known
        assert torch.equal(a.cloud.colours, b.cloud.colours)
        assert [v.target.tolist() for v in a.views] == [v.target.tolist() for v in b.views]


def observe(bench, path: Path, config: ObserveConfig, limit_mb: int = 100, copies: int = 0) -> ObservationCache:
    header = library_header(bench.encoder, bench.config)
    return observe_all(shapes_of(bench.sources, copies), path, bench.encoder, header, config, limit_mb)


def test_meshes_that_are_there_are_not_observed_again(
    bench, copy: Path, observe_config: ObserveConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Observer, "observe", lambda self, source, copy: pytest.fail(source.id))
    assert len(observe(bench, copy, observe_config).meshes) == 3


def test_training_meshes_have_copies_and_others_none(
    bench, tmp_path: Path, observe_config: ObserveConfig, points_config, shared_parts
) -> None:
    plain = observe(bench, tmp_path / "copies", observe_config)
    cache = observe(bench, tmp_path / "copies", observe_config, copies=2)
    assert cache.meshes[: len(plain.meshes)] == plain.meshes
    assert [(mesh.id, mesh.copy) for mesh in cache.of("train", copies=2)] == [
        (name, k) for name in ("block", "truck") for k in range(3)
    ]
    assert [(mesh.id, mesh.copy) for mesh in cache.of("train")] == [("block", 0), ("truck", 0)]
    assert [(mesh.id, mesh.copy) for mesh in cache.of("validation", copies=2)] == [("can", 0)]
    clouds = [cache.load(mesh)[0].cloud.points for mesh in cache.of("train", copies=2)]
    assert len({float(cloud[0, 0]) for cloud in clouds}) == 6
    assert observe(bench, tmp_path / "copies", observe_config, copies=1).meshes == cache.meshes
    assert [len(MeshDataset(cache, "train", points_config, copies=n)) for n in (0, 1, 2)] == [2, 4, 6]


def test_a_mesh_that_cannot_be_used_is_read_and_told_of_once(
    bench, tmp_path: Path, observe_config: ObserveConfig, shared_parts, caplog
) -> None:
    few = dataclasses.replace(observe_config, max_faces=1)
    assert not observe(bench, tmp_path / "none", few, copies=2).meshes
    assert [record.args[0] for record in caplog.records] == [source.id for source in bench.sources]


def test_a_journal_with_another_kind_of_copy_is_refused(copy: Path) -> None:
    lines = (copy / JOURNAL).read_text()
    (copy / JOURNAL).write_text(lines.replace('"copy": 0', '"copy": "/../x"', 1))
    with pytest.raises(LibraryError, match=r"expected the number of a copy, got '/\.\./x'"):
        ObservationCache.open(copy)


def test_a_line_cut_short_by_a_kill_is_observed_again(bench, copy: Path, observe_config: ObserveConfig) -> None:
    whole = (copy / JOURNAL).read_text()
    (copy / JOURNAL).write_text(whole[:-40])
    assert [mesh.id for mesh in ObservationCache.open(copy).meshes] == ["block", "can"]
    observe(bench, copy, observe_config)
    assert (copy / JOURNAL).read_text() == whole


def test_it_stops_at_its_limit(bench, tmp_path: Path, observe_config: ObserveConfig, caplog) -> None:
    cache = observe(bench, tmp_path / "small", observe_config, limit_mb=0)
    assert not cache.meshes
    assert "as many as it may; 3 meshes left" in caplog.text


def test_observations_made_another_way_are_refused(bench, copy: Path, observe_config: ObserveConfig) -> None:
    with pytest.raises(LibraryError, match="choose another folder"):
        observe(bench, copy, dataclasses.replace(observe_config, seed=1))


def test_changed_files_are_refused(copy: Path) -> None:
    file = copy / "meshes" / "can.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    cache = ObservationCache.open(copy)
    with pytest.raises(LibraryError, match=r"can\.safetensors: its content has changed"):
        cache.load(cache.meshes[1])


def test_a_folder_without_observations_is_named(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="holds no readable observations"):
        ObservationCache.open(tmp_path)
