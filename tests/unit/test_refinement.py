"""The refine stage's choice of whom to refine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception import refinement, valuing
from pasr_perception.config import ConfigError, PasrConfig, RefineConfig
from pasr_perception.contour import CropEdges, contour_agreement
from pasr_perception.crop import crop_detections
from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.library.store import MeshLibrary
from pasr_perception.pipeline import Pipeline
from pasr_perception.refine import Pose
from pasr_perception.types import Candidates, Crop

EVERYONE = RefineConfig(finalists=10, polish=0, contour_weight=0, window=0)  # so that all are refined alike


@pytest.fixture(scope="module")
def searched(bench: Any, library_path: Path) -> tuple[Pipeline, list[Candidates], Any, Any]:
    """A pipeline, and what it searched in photos of the truck and of the can."""
    pipeline = Pipeline(MeshLibrary.open(library_path), bench.encoder, PasrConfig(), torch.device("cpu"))
    crops, found, maps = [], [], []
    for mesh_id, R, z in (("truck", look_at(0.5, 0.8), 5.0), ("can", look_at(0.3, 2.0), 0.6)):
        frame, detection = bench.photograph(mesh_id, make_T(R, np.array([0, 0, z])))
        crop, _ = crop_detections(frame, [detection], pipeline.crop_spec)
        encoded = pipeline.encode(crop)
        size = torch.as_tensor(crop[0].box[2:] - crop[0].box[:2], dtype=torch.float32)[None]
        crops, maps = [*crops, *crop], [*maps, encoded]
        found += pipeline.search(encoded, size)
    return pipeline, found, torch.cat(maps), crops


def moved(found: Candidates, refined: Candidates) -> list[bool]:
    return [not torch.equal(a, b) for a, b in zip(found.rotation, refined.rotation, strict=True)]


def test_those_far_behind_the_best_stay_where_they_are(searched: Any) -> None:
    pipeline, found, maps, crops = searched
    margins = [pipeline.rivals.margin(c.value, c.mesh_index) for c in found]
    assert all(torch.equal(m, m.sort(descending=True).values) for m in margins)
    window = float(margins[0][0] - margins[0][3]) + 1e-4  # of the first crop, four
    near = dataclasses.replace(EVERYONE, window=window)
    for before, after, margin in zip(found, pipeline.refine(found, maps, crops, near), margins, strict=True):
        inside = margin >= margin[0] - window
        assert inside[0]
        assert not inside.all()
        assert not any(np.array(moved(before, after))[~inside.numpy()])
        assert any(moved(before, after)[: int(inside.sum())])
        assert torch.equal(after.value[~inside], before.value[~inside])
    assert int((margins[0] >= margins[0][0] - window).sum()) == 4


def test_those_that_are_refined_are_refined_as_ever(searched: Any) -> None:
    pipeline, found, maps, crops = searched
    whole = pipeline.refine(found, maps, crops, EVERYONE)
    narrow = pipeline.refine(found, maps, crops, dataclasses.replace(EVERYONE, window=1e-6))
    for all_of_them, best, before in zip(whole, narrow, found, strict=True):
        torch.testing.assert_close(best.rotation[0], all_of_them.rotation[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(best.value[0], all_of_them.value[0], atol=1e-4, rtol=0)
        assert sum(moved(before, best)) == 1
        assert sum(moved(before, all_of_them)) > 3


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """At how many contours each call looks."""
    counts: list[int] = []
    look = valuing.contour_agreement

    def counted(pose: Any, *rest: Any) -> torch.Tensor:
        counts.append(len(pose.rotation))
        return look(pose, *rest)

    monkeypatch.setattr(valuing, "contour_agreement", counted)
    return counts


def test_who_ends_far_behind_is_not_looked_at_again(searched: Any, looked: list[int]) -> None:
    """It keeps what contours and colours said before; whoever is best is the same, to the last digit."""
    pipeline, found, maps, crops = searched
    everyone = dataclasses.replace(EVERYONE, contour_weight=RefineConfig.contour_weight)
    many = pipeline.refine(found, maps, crops, everyone)
    heads = sum(len(c.mesh_index) for c in found)
    assert looked == [heads, heads]
    looked.clear()
    few = pipeline.refine(found, maps, crops, dataclasses.replace(everyone, window=4.0))
    assert len(found) <= looked[1] < looked[0] <= heads
    for some, every in zip(few, many, strict=True):
        best, other = (pipeline.rivals.margin(c.value, c.mesh_index) for c in (some, every))
        assert some.mesh_index[best.argmax()] == every.mesh_index[other.argmax()]
        assert float(best.max()) == pytest.approx(float(other.max()), abs=1e-4)


def test_so_many_are_looked_at_again_at_most(searched: Any, looked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, found, maps, crops = searched
    monkeypatch.setattr(valuing, "AGAIN", 2)
    wide = dataclasses.replace(EVERYONE, contour_weight=RefineConfig.contour_weight, window=99)
    pipeline.refine(found, maps, crops, wide)
    assert looked == [sum(len(c.mesh_index) for c in found), 2 * len(found)]


def test_what_nobody_compared_before_is_looked_at_all_over(searched: Any) -> None:
    pipeline, found, maps, crops = searched
    narrow = dataclasses.replace(EVERYONE, window=1e-6, top_k=99)
    offset = pipeline.rivals.offset
    ahead = [dataclasses.replace(c, agreement=None, value=offset[c.mesh_index]) for c in found]  # nobody is behind
    said = [c.agreement for c in pipeline.refine(ahead, maps, crops, narrow, compared=False)]
    known = [c.agreement for c in pipeline.refine(found, maps, crops, dataclasses.replace(EVERYONE, top_k=99))]
    for mine, other in zip(said, known, strict=True):
        torch.testing.assert_close(mine, other, atol=5e-3, rtol=0)  # another contest: climbs end a little elsewhere
        assert mine.any()


def test_a_window_below_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"refine\.window: expected 0 or more, got -1"):
        RefineConfig(window=-1)


def test_candidates_are_judged_by_the_cells_that_show_the_object(searched: Any) -> None:
    """Their poses, and the similarity that is told, do not change by it."""
    pipeline, found, maps, crops = searched
    grid = pipeline.encoder.grid

    def refined(shown: np.ndarray | None, share: float = 1.0) -> list[Candidates]:
        told = [dataclasses.replace(crop, shown=shown) for crop in crops]
        return pipeline.refine(found, maps, told, dataclasses.replace(EVERYONE, shown_share=share))

    alike, all_shown, half = (refined(s) for s in (None, np.ones((grid, grid), np.float32), left_half(grid)))
    unasked, partly = refined(left_half(grid), share=0.0), refined(left_half(grid), share=0.25)
    for a, b, c, d, e in zip(alike, all_shown, half, unasked, partly, strict=True):
        torch.testing.assert_close(b.value, a.value, atol=1e-5, rtol=0)
        assert torch.equal(d.value, a.value)
        more = c.value - a.value
        assert more.abs().max() > 0.01
        torch.testing.assert_close(e.value - a.value, 0.25 * more, atol=1e-5, rtol=0)
        assert torch.equal(c.similarity, a.similarity)
        assert torch.equal(c.rotation, a.rotation)


def test_the_winner_is_polished_by_contours_too(searched: Any) -> None:
    """Where these outweigh eq. 8 it ends where they agree better, though it was polished by eq. 8 to where they do not."""
    pipeline, found, maps, crops = searched
    heavy = dataclasses.replace(EVERYONE, contour_weight=1000.0)

    def agreed(config: RefineConfig) -> list[float]:
        refined = pipeline.refine(found, maps, crops, config)
        return [agreement_of_best(pipeline, each, crop) for each, crop in zip(refined, crops, strict=True)]

    before, after = agreed(heavy), agreed(dataclasses.replace(heavy, polish=3))
    assert all(b <= a + 1e-6 for b, a in zip(before, after, strict=True))
    assert any(b < a - 0.001 for b, a in zip(before, after, strict=True))


def agreement_of_best(pipeline: Pipeline, refined: Candidates, crop: Crop) -> float:
    """How well contours agree at the pose of the best of a crop's candidates."""
    best = int(pipeline.rivals.margin(refined.value, refined.mesh_index).argmax())
    assert refined.displacement is not None
    moved = refined.displacement[best : best + 1]
    pose = Pose(refined.rotation[best : best + 1], moved[:, :2], moved[:, 2])
    clouds, none = pipeline._space.clouds([int(refined.mesh_index[best])]), torch.zeros(1, dtype=torch.long)
    return float(contour_agreement(pose, none, clouds, CropEdges.of([crop]), none, pipeline._scene)[0])


def left_half(grid: int) -> np.ndarray:
    shown = np.zeros((grid, grid), np.float32)
    shown[:, : grid // 2] = 1
    return shown


@pytest.fixture(scope="module")
def astray(searched: Any) -> tuple[Pipeline, list[Candidates], list[Candidates], Any, Any]:
    """The pipeline, two bad poses of each photo's mesh, what a search of that mesh alone finds, maps and crops."""
    pipeline, found, maps, crops = searched
    alone = pipeline._candidates(crops, maps, [int(c.mesh_index[0]) for c in found])
    worse = [c.chosen(torch.arange(len(c.mesh_index) - 2, len(c.mesh_index))) for c in alone]
    return pipeline, worse, alone, maps, crops


def test_the_winners_mesh_is_searched_for_again_and_its_best_pose_wins(astray: Any) -> None:
    pipeline, worse, alone, maps, crops = astray
    asked: list[list[int]] = []

    def search(meshes: list[int]) -> list[Candidates]:
        asked.append(meshes)
        return list(alone)

    without = pipeline.refine(worse, maps, crops, EVERYONE)
    again = pipeline.refine(worse, maps, crops, EVERYONE, search=search)
    best = pipeline.refine(alone, maps, crops, dataclasses.replace(EVERYONE, top_k=4))
    assert asked == [[int(c.mesh_index[0]) for c in worse]]
    for a, b, c in zip(without, again, best, strict=True):
        assert b.value.max() > a.value.max()
        assert b.value.max() >= c.value.max() - 1e-5  # as if it had been among the candidates at first
        assert len(a.value) == len(b.value)
        assert int((a.value != b.value).sum()) == 1  # the winner alone
        winner = int(b.value.argmax())
        assert not torch.equal(a.rotation[winner], b.rotation[winner])


def test_a_search_that_finds_nothing_new_leaves_all_as_it_was(astray: Any, searched: Any) -> None:
    pipeline, worse, _, maps, crops = astray
    without = pipeline.refine(worse, maps, crops, EVERYONE)
    nothing = [c.chosen(torch.zeros(0, dtype=torch.long)) for c in worse]
    for found in (worse, nothing):
        again = pipeline.refine(worse, maps, crops, EVERYONE, search=lambda _, found=found: found)
        for a, b in zip(without, again, strict=True):
            assert torch.equal(a.rotation, b.rotation)
            assert torch.equal(a.value, b.value)


def test_what_is_found_again_in_some_crops_wins_in_these(astray: Any) -> None:
    pipeline, worse, alone, maps, crops = astray
    nothing = worse[0].chosen(torch.zeros(0, dtype=torch.long))
    without = pipeline.refine(worse, maps, crops, EVERYONE)
    windowed = dataclasses.replace(EVERYONE, window=5.0, contour_weight=28.0)
    for config in (EVERYONE, windowed):
        again = pipeline.refine(worse, maps, crops, config, search=lambda _: [nothing, alone[1]])
        alike = pipeline.refine(worse, maps, crops, config)
        assert torch.equal(again[0].rotation, alike[0].rotation)
        assert again[1].value.max() > alike[1].value.max()
    assert len(without) == 2


def test_poses_that_were_refined_are_not_refined_again(astray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, _, alone, maps, crops = astray
    counts: list[int] = []
    refine = refinement.refine

    def counted(start: Any, *rest: Any) -> Any:
        counts.append(len(start.crop))
        return refine(start, *rest)

    monkeypatch.setattr(refinement, "refine", counted)
    known = [c.chosen(torch.tensor([0, 2])) for c in alone]
    for most, more in ((0, None), (2, 4), (1000, sum(len(c.value) - 2 for c in alone))):
        counts.clear()
        config = dataclasses.replace(EVERYONE, again=most)
        pipeline.refine(known, maps, crops, config, search=lambda _: alone)
        assert counts == ([4] if more is None else [4, more])


def test_whoever_names_the_mesh_is_not_searched_for_again(
    searched: Any, monkeypatch: pytest.MonkeyPatch, bench: Any
) -> None:
    """All that is known of it was asked for already."""
    pipeline = searched[0]
    frame, detection = bench.photograph("truck", make_T(look_at(0.5, 0.8), np.array([0, 0, 5.0])))
    meshes: list[Any] = []
    search = pipeline.search
    monkeypatch.setattr(
        pipeline, "search", lambda maps, size, only, chroma: (meshes.append(only), search(maps, size, only, chroma))[1]
    )
    pipeline.detect(frame, [detection], only=["truck"])
    truck = pipeline.library.index_of("truck")
    assert meshes == [[truck]]
    meshes.clear()
    found = pipeline.detect(frame, [detection]).objects[0]
    assert meshes == [None, [pipeline.library.index_of(found.best.mesh_id)]]
