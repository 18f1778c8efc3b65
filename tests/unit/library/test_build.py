"""Building libraries of three small meshes: what is in them, repeatability, bad meshes, adding, being killed."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.coarse import turn_maps
from pasr_perception.config import LibraryConfig, PasrConfig
from pasr_perception.crop import CropSpec
from pasr_perception.geometry.viewpoints import QUARTER_TURNS, base_poses
from pasr_perception.library.build import (
    add_to_library,
    best_scores,
    build_library,
    library_header,
    remove_from_library,
)
from pasr_perception.library.index import read_index
from pasr_perception.library.relearn import relearn_library
from pasr_perception.library.store import LibraryError, MeshLibrary
from pasr_perception.library.strangers import strangers
from pasr_perception.library.views import RenderedView, ViewRenderer
from pasr_perception.pipeline import Pipeline
from pasr_perception.templates import score_templates

CALLS_PER_MESH = 4  # of the encoder: 30 views by 8


def entries(path: Path) -> list[dict[str, Any]]:
    raw = json.loads((path / "library.json").read_text())["entries"]
    return [{k: v for k, v in e.items() if k != "build_seconds"} for e in raw]


@pytest.fixture
def copy(library_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(library_path, tmp_path / "copy", ignore=shutil.ignore_patterns(".lock")))


class Failing:
    """The bench's encoder, until it has been asked `calls` times."""

    def __init__(self, encoder: Any, calls: int) -> None:
        self.name, self.dim, self.image_size = encoder.name, encoder.dim, encoder.image_size
        self.grid, self.fingerprint = encoder.grid, encoder.fingerprint
        self._encoder, self._left = encoder, calls

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("the power is gone")
        return self._encoder.encode(images)


def test_entries_say_what_the_meshes_are(bench, library_path: Path) -> None:
    library = MeshLibrary.open(library_path, expect_encoder=(bench.encoder.name, bench.encoder.fingerprint))
    assert library.header == library_header(bench.encoder, bench.config)
    assert [e.id for e in library.entries] == ["block", "can", "truck"]
    block, can, truck = library.entries
    assert block.extent == pytest.approx((0.2, 0.3, 0.4), rel=1e-5)  # metres, from millimetres
    assert block.center == pytest.approx((0.5, -0.1, 0.05), rel=1e-4)
    assert block.scale == pytest.approx(np.linalg.norm([0.2, 0.3, 0.4]) / 2, rel=1e-5)
    assert (block.unit, block.category, block.creator, block.licence) == (0.001, "blocks", "the tests", "CC0-1.0")
    assert {e.appearance for e in library.entries} == {"known"}  # `auto` saw the colours
    assert (can.pose_set, truck.pose_set) == ("so3", "upright")
    assert can.symmetry.continuous_axes == ()  # its colours run around it
    assert block.symmetry.to_dict()["center"] == pytest.approx(block.center, abs=1e-3)
    np.testing.assert_allclose(library.load_mesh("truck").bounds, bench.meshes["truck"].bounds, atol=1e-6)
    assert library.verify() == []


def test_tensors_are_those_of_the_configuration(bench, library_path: Path) -> None:
    library, config = MeshLibrary.open(library_path), bench.config
    for i, entry in enumerate(library.entries):
        data, templates = library.data(i), library.templates(i)
        assert data.points.shape == (config.points, 3)
        assert data.points.norm(dim=1).max() <= 1 + 1e-6
        assert torch.allclose(data.features.float().norm(dim=1), torch.ones(config.points), atol=2e-3)
        assert len(data.view_rotation) == len(data.view_pooled) == config.views
        assert data.colours.shape == (config.points, 3)
        poses = base_poses(entry.pose_set, entry.up)
        np.testing.assert_allclose(templates.rotation, poses, atol=1e-6)
        assert templates.outline.amax(1) == pytest.approx(torch.full((len(poses),), config.fill), abs=1e-3)
        sums = torch.zeros(len(poses)).index_add(
            0,
            torch.bucketize(torch.arange(len(templates.weight)), templates.start.long(), right=True) - 1,
            templates.weight,
        )
        assert (sums > 0.99).all()  # eq. 8: unit features that agree make each pixel count once


@pytest.fixture(scope="module")
def stranger_maps(bench) -> torch.Tensor:
    """[S, 4, D, g, g] what the build measures offsets on."""
    crops = strangers(bench.config.strangers, CropSpec(bench.encoder.image_size, bench.config.fill), bench.config.seed)
    return turn_maps(bench.encoder, crops, range(4), 8)


def test_offsets_are_what_strangers_score(library_path: Path, stranger_maps: torch.Tensor) -> None:
    library = MeshLibrary.open(library_path)
    for i, entry in enumerate(library.entries):
        features, templates = library.data(i).features.float(), library.templates(i)
        best = best_scores(stranger_maps, features, templates, QUARTER_TURNS[entry.pose_set])
        assert entry.offset_mean == pytest.approx(float(best.mean()), abs=1e-5)
        assert entry.offset_std == pytest.approx(float(best.std()), abs=1e-5)


def test_best_scores_takes_the_best_turn_and_pose(library_path: Path, stranger_maps: torch.Tensor) -> None:
    library = MeshLibrary.open(library_path)
    features, templates = library.data(0).features.float(), library.templates(0)
    every = torch.stack([score_templates(stranger_maps[:, t], features, templates) for t in range(4)])  # [4, S, P]
    torch.testing.assert_close(best_scores(stranger_maps, features, templates, (0, 1, 2, 3)), every.amax((0, 2)))
    torch.testing.assert_close(best_scores(stranger_maps, features, templates, (2,)), every[2].amax(1))


@pytest.mark.parametrize("workers", [1, 2])
def test_building_again_gives_the_same_library(bench, library_path: Path, tmp_path: Path, workers: int) -> None:
    config = dataclasses.replace(bench.config, workers=workers)
    build_library(bench.sources, tmp_path / "again", bench.encoder, config)
    assert entries(tmp_path / "again") == entries(library_path)  # checksums of all files are part of them


def test_another_seed_gives_other_samples(bench, library_path: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(bench.config, seed=1)
    build_library([bench.source("truck")], tmp_path / "other", bench.encoder, config)
    assert not torch.equal(
        MeshLibrary.open(tmp_path / "other").data(0).points, MeshLibrary.open(library_path).data(2).points
    )


def test_a_bad_mesh_is_skipped_by_name(bench, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "torn.ply").write_bytes(bench.source("can").path.read_bytes()[:300])
    torn = dataclasses.replace(bench.source("can"), id="torn", path=tmp_path / "torn.ply")
    told: list[tuple[str, int, int]] = []
    report = build_library(
        [torn, bench.source("truck")], tmp_path / "lib", bench.encoder, bench.config, lambda *args: told.append(args)
    )
    assert report.built == ("truck",)
    ((name, reason),) = report.skipped
    assert name == "torn"
    assert "torn.ply" in reason
    assert "mesh torn skipped" in caplog.text
    assert told == [("torn", 0, 2), ("truck", 1, 2), ("score offsets", 0, 1), ("score offsets", 1, 1), ("index", 1, 1)]
    (entry,) = MeshLibrary.open(tmp_path / "lib").entries
    assert entry.offset_std > 0


def test_a_mesh_without_colours_is_looked_at_under_random_textures(bench, tmp_path: Path) -> None:
    bare = bench.meshes["truck"].copy()
    bare.visual = type(bare.visual)(bare)
    bare.export(tmp_path / "bare.stl")
    source = dataclasses.replace(bench.source("truck"), id="bare", path=tmp_path / "bare.stl", unit=1.0)
    build_library([source], tmp_path / "lib", bench.encoder, bench.config)
    library = MeshLibrary.open(tmp_path / "lib")
    assert library.entries[0].appearance == "unknown"
    pooled = library.data(0).view_pooled.float()
    assert (pooled @ pooled.T).fill_diagonal_(0).max() < 0.995  # no two views look the same


def test_features_are_lifted_from_views_centred_one_by_one(bench, tmp_path: Path) -> None:
    """Another picture behind a view, or another light, is not in them: each view's mean is taken out before the average."""

    class Tinted(Failing):
        """The bench's encoder with another cast over every view."""

        def encode(self, images: torch.Tensor) -> torch.Tensor:
            rng = torch.Generator().manual_seed(self._left)
            cast = torch.randn(len(images), self.dim, 1, 1, generator=rng)
            return super().encode(images) + cast

    for name, encoder in (("plain", bench.encoder), ("tinted", Tinted(bench.encoder, 1000))):
        build_library([bench.source("truck")], tmp_path / name, encoder, bench.config)
    plain, tinted = (MeshLibrary.open(tmp_path / name).data(0).features.float() for name in ("plain", "tinted"))
    torch.testing.assert_close(tinted, plain, atol=2e-3, rtol=0)  # float16


def test_views_that_show_nothing_are_left_out(bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render, made = ViewRenderer.render, []

    def edge_on(self: ViewRenderer, *args: Any) -> RenderedView:
        view = render(self, *args)
        made.append(view)
        return dataclasses.replace(view, depth=np.full_like(view.depth, np.inf)) if len(made) % 3 == 1 else view

    monkeypatch.setattr(ViewRenderer, "render", edge_on)
    build_library([bench.source("truck")], tmp_path / "lib", bench.encoder, bench.config)
    kept = [view.rotation for i, view in enumerate(made) if i % 3]
    torch.testing.assert_close(MeshLibrary.open(tmp_path / "lib").data(0).view_rotation, torch.tensor(np.stack(kept)))
    monkeypatch.setattr(RenderedView, "is_empty", True)
    report = build_library([bench.source("can")], tmp_path / "none", bench.encoder, bench.config)
    assert report.skipped == (("can", "shows nothing in any of 30 views: its faces are too thin to be met by a ray"),)


def test_features_centred_as_they_once_were_are_read_and_not_gone_on_with(bench, copy: Path, tmp_path: Path) -> None:
    raw = json.loads((copy / "library.json").read_text())
    del raw["features"]["centred"]
    (copy / "library.json").write_text(json.dumps(raw))
    assert MeshLibrary.open(copy).header.features.centred == "mesh"
    before = entries(copy)
    with pytest.raises(
        LibraryError, match=r"has lifted \(centred over the mesh, by an older version\) point features, not lifted"
    ):
        add_to_library(copy, [dataclasses.replace(bench.source("can"), id="another")], bench.encoder, bench.config)
    assert entries(copy) == before
    with pytest.raises(LibraryError, match=r"`pasr library rebuild .*` renders its views again"):
        relearn_library(copy, tmp_path / "new", bench.encoder, bench.config)


def test_build_refuses_a_folder_that_holds_a_library(bench, library_path: Path) -> None:
    before = entries(library_path)
    with pytest.raises(LibraryError, match="is a library already"):
        build_library(bench.sources, library_path, bench.encoder, bench.config)
    assert entries(library_path) == before


def test_adding_leaves_the_others_as_they_are(bench, copy: Path) -> None:
    before = entries(copy)
    cube = dataclasses.replace(bench.source("block"), id="second", pose_set="upright")
    report = add_to_library(copy, [cube], bench.encoder, bench.config)
    assert report.built == ("second",)
    after = entries(copy)
    assert after[:3] == before
    assert after[3]["offset_std"] > 0
    assert MeshLibrary.open(copy).verify() == []


def test_added_meshes_get_as_many_points_as_the_library_has(bench, copy: Path) -> None:
    cube = dataclasses.replace(bench.source("block"), id="second", pose_set="upright")
    add_to_library(copy, [cube], bench.encoder, dataclasses.replace(bench.config, points=100))
    library = MeshLibrary.open(copy)
    assert library.data(3).points.shape == (bench.config.points, 3)
    Pipeline(library, bench.encoder, PasrConfig(), torch.device("cpu"))  # searches all clouds as one tensor


def test_the_index_follows_what_is_added_and_removed(bench, copy: Path) -> None:
    before = read_index(MeshLibrary.open(copy))
    assert before is not None
    assert remove_from_library(copy, ["block", "truck"]) == 1
    left = read_index(MeshLibrary.open(copy))
    assert left is not None
    assert list(left.meshes) == ["can"]
    assert torch.equal(left.meshes["can"].rows.code, before.meshes["can"].rows.code)
    add_to_library(copy, [bench.source("block")], bench.encoder, bench.config)
    again = read_index(MeshLibrary.open(copy))
    assert again is not None
    assert list(again.meshes) == ["can", "block"]
    assert torch.equal(again.meshes["block"].rows.code, before.meshes["block"].rows.code)
    assert again.meshes["block"].attraction == pytest.approx(before.meshes["block"].attraction)


def test_nothing_is_removed_if_one_of_the_meshes_is_not_there(copy: Path) -> None:
    with pytest.raises(LibraryError, match="holds no mesh tram; nothing was removed"):
        remove_from_library(copy, ["can", "tram"])
    assert len(MeshLibrary.open(copy)) == 3


def test_adding_with_another_encoder_is_refused(bench, copy: Path) -> None:
    other = Failing(bench.encoder, 0)
    other.fingerprint = "other"
    before = entries(copy)
    with pytest.raises(LibraryError, match="their features cannot be compared"):
        add_to_library(copy, [bench.source("can")], other, bench.config)
    assert entries(copy) == before


def test_a_killed_build_keeps_what_was_finished_and_can_go_on(bench, library_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "lib"
    with pytest.raises(RuntimeError, match="the power is gone"):
        build_library(bench.sources, path, Failing(bench.encoder, 2 * CALLS_PER_MESH + 3), bench.config)
    library = MeshLibrary.open(path)
    assert [e.id for e in library.entries] == ["block", "can"]
    assert library.verify() == []
    report = add_to_library(path, [bench.source("truck")], bench.encoder, bench.config)
    assert report.built == ("truck",)
    assert entries(path) == entries(library_path)  # offsets included: as if nothing had happened


class Stuck(Failing):
    """The bench's encoder, which then never answers."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        try:
            return super().encode(images)
        except RuntimeError:
            threading.Event().wait()
            raise


@pytest.mark.parametrize(
    ("calls", "listed"),
    [
        (2 * CALLS_PER_MESH + 3, ("block", "can")),  # while the third mesh is looked at
        (3 * CALLS_PER_MESH + 1, ("block", "can", "truck")),  # while the offsets' crops are encoded
    ],
)
def test_a_build_goes_on_after_kill_9(
    bench, library_path: Path, tmp_path: Path, calls: int, listed: tuple[str, ...]
) -> None:
    path, encoder = tmp_path / "lib", Stuck(bench.encoder, calls)
    process = multiprocessing.get_context("fork").Process(
        target=build_library, args=(bench.sources, path, encoder, bench.config)
    )
    process.start()
    journal = path / "library.jsonl"
    for _ in range(15_000):
        if journal.exists() and journal.read_bytes().count(b"\n") == 1 + len(listed):
            break
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    library = MeshLibrary.open(path)
    assert tuple(e.id for e in library.entries) == listed
    assert library.verify() == []
    report = build_library(bench.sources, path, bench.encoder, bench.config, resume=True)
    assert (report.kept, (*report.kept, *report.built)) == (listed, ("block", "can", "truck"))
    assert entries(path) == entries(library_path)  # checksums and offsets included: as if nothing had happened


def test_offsets_measured_before_a_kill_are_kept(bench, library_path: Path, tmp_path: Path) -> None:
    measured: list[str] = []

    def stop(what: str, done: int, total: int) -> None:
        measured.append(f"{what} {done}/{total}")
        if measured[-1] == "score offsets 2/3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_library(bench.sources, tmp_path / "lib", bench.encoder, bench.config, stop)
    assert [e.offset_std > 0 for e in MeshLibrary.open(tmp_path / "lib").entries] == [True, True, False]
    measured.clear()
    report = build_library(
        bench.sources, tmp_path / "lib", bench.encoder, bench.config, lambda *a: measured.append(str(a)), resume=True
    )
    assert report.built == ()
    assert measured[:2] == ["('score offsets', 0, 1)", "('score offsets', 1, 1)"]
    assert measured[2:] == [f"('index', {done}, 3)" for done in (1, 2, 3)]
    assert entries(tmp_path / "lib") == entries(library_path)


def test_resume_begins_where_there_is_no_library(bench, tmp_path: Path) -> None:
    report = build_library([bench.source("truck")], tmp_path / "lib", bench.encoder, bench.config, resume=True)
    assert (report.built, report.kept) == (("truck",), ())


def test_a_mesh_that_is_there_is_refused_without_resume(bench, copy: Path) -> None:
    with pytest.raises(LibraryError, match=r"holds can already; remove them first .* or leave them out with --resume"):
        add_to_library(copy, [bench.source("can")], bench.encoder, bench.config)
    report = add_to_library(copy, [bench.source("can")], bench.encoder, bench.config, resume=True)
    assert (report.built, report.kept) == ((), ("can",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": 1.0}, "mesh can was built with unit 0.001, not 1.0"),
        ({"pose_set": "upright"}, "pose_set so3, not upright"),
        ({"category": "tin"}, "category cans, not tin"),
        ({"appearance": "unknown"}, "appearance known, not unknown"),
        ({"id": "Can"}, "mesh can was built with id can, not Can"),
    ],
)
def test_going_on_with_other_options_is_refused(bench, copy: Path, change: dict[str, Any], words: str) -> None:
    before = entries(copy)
    with pytest.raises(LibraryError, match=words):
        build_library(
            [dataclasses.replace(bench.source("can"), **change)], copy, bench.encoder, bench.config, resume=True
        )
    assert entries(copy) == before


def test_going_on_with_other_settings_is_refused(bench, copy: Path) -> None:
    other = dataclasses.replace(bench.config, fill=0.7, points=900)
    with pytest.raises(LibraryError, match=r"was begun with fill 0\.8, not 0\.7, points 800, not 900; .*--force"):
        build_library(bench.sources, copy, bench.encoder, other, resume=True)
    stranger = Failing(bench.encoder, 0)
    stranger.fingerprint = "other"
    with pytest.raises(LibraryError, match="their features cannot be compared"):
        build_library(bench.sources, copy, stranger, bench.config, resume=True)


def test_the_header_carries_the_splatting_in_grid_units(bench) -> None:
    header = library_header(bench.encoder, LibraryConfig(splat_radius_px=0.7, points_per_pixel=5, depth_band=0.2))
    assert header.splat.radius_px == pytest.approx(0.7)
    assert (header.splat.size, header.splat.points_per_pixel, header.splat.depth_band) == (14, 5, 0.2)
