"""The whole pipeline on a library of three small meshes: photos at known poses come back as mesh ids and poses."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pasr_perception.config import BoxConfig, CoarseConfig, PasrConfig, RankConfig, RefineConfig
from pasr_perception.crop import crop_detections
from pasr_perception.encoders.base import EncoderError
from pasr_perception.geometry.camera import distort_points, project, undistort_points
from pasr_perception.geometry.se3 import is_rotation, make_T, rotation_angle
from pasr_perception.geometry.viewpoints import look_at, quarter_turn, random_rotations
from pasr_perception.library.build import build_library
from pasr_perception.library.store import LibraryError, MeshLibrary
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Camera, Detection, Frame

CONFIG = PasrConfig(
    boxes=BoxConfig(tighten=False),  # these photos' are exact
    coarse=CoarseConfig(top_k=6),
    refine=RefineConfig(top_k=4),
    rank=RankConfig(hypotheses=3, known_margin=0.0),
)
CPU = torch.device("cpu")
# so3 from all sides; upright as it stands, slightly rolled
ANYWHERE = random_rotations(4, np.random.default_rng(11))
STANDING = [look_at(0.5, 0.8, 0.1), look_at(0.2, 2.4, -0.2), look_at(-0.2, 4.0), look_at(0.9, 5.5, 0.3)]
SHOWN = [
    *(("block", R, 1.4) for R in ANYWHERE),
    *(("can", R, 0.6) for R in ANYWHERE),
    *(("truck", R, 5.0) for R in STANDING),
]
PLACES = [(0.0, 0.0), (0.2, 0.1), (-0.25, -0.1), (-0.1, 0.15)]  # x / z and y / z of the object's centre


@pytest.fixture(scope="module")
def pipeline(bench, library_path: Path) -> Pipeline:
    return Pipeline(MeshLibrary.open(library_path), bench.encoder, CONFIG, CPU)


def pose(bench: Any, mesh_id: str, R: np.ndarray, z: float, place: tuple[float, float]) -> np.ndarray:
    """T_cam_obj that puts the middle of the mesh's bounds to depth z."""
    return make_T(R, np.array([place[0] * z, place[1] * z, z]) - R @ bench.meshes[mesh_id].bounds.mean(0))


def middle(bench: Any, mesh_id: str, T: np.ndarray) -> np.ndarray:
    return T[:3, :3] @ bench.meshes[mesh_id].bounds.mean(0) + T[:3, 3]


@pytest.fixture(scope="module")
def answers(bench, pipeline: Pipeline) -> list[Any]:
    """(mesh id, true pose, estimate) of every photo."""
    found = []
    for i, (mesh_id, R, z) in enumerate(SHOWN):
        T = pose(bench, mesh_id, R, z, PLACES[i % 4])
        frame, detection = bench.photograph(mesh_id, T)
        result = pipeline.detect(frame, [detection])
        assert result.rejected == ()
        assert result.objects[0].detection is detection
        found.append((mesh_id, T, result.objects[0]))
    return found


def test_every_photo_is_recognised(answers) -> None:
    assert [o.best.mesh_id for _, _, o in answers] == [mesh_id for mesh_id, _, _ in answers]
    assert {o.best.category for _, _, o in answers} == {"blocks", "cans", "trucks"}


def test_poses_come_back(bench, answers) -> None:
    """A cell of this encoder is 8 % of the object, and centred colour leaves it little to go by; real features have more."""
    rotations, translations = [], []
    for mesh_id, T, found in answers:
        estimate = found.best.T_cam_obj
        assert estimate.shape == (4, 4)
        assert is_rotation(estimate[:3, :3], 1e-4)
        rotations.append(np.degrees(rotation_angle(estimate[:3, :3], T[:3, :3])))
        truth = middle(bench, mesh_id, T)
        translations.append(np.linalg.norm(middle(bench, mesh_id, estimate) - truth) / np.linalg.norm(truth))
    assert np.median(rotations) < 14
    assert np.max(rotations) < 30
    assert np.median(translations) < 0.08
    assert np.percentile(translations, 90) < 0.15
    assert np.max(translations) < 0.2


def test_the_best_pose_says_how_sure_it_is(answers) -> None:
    for _, _, found in answers:
        C = found.best.covariance
        np.testing.assert_allclose(C, C.T, rtol=1e-9, atol=1e-12)
        assert np.linalg.eigvalsh(C).min() > 0
        assert np.diag(C)[:3].max() < found.best.T_cam_obj[2, 3] ** 2
        assert all(h.covariance is None for h in found.hypotheses[1:])


def test_hypotheses_say_how_alike_their_meshes_look_from_the_camera(pipeline, answers) -> None:
    for _, _, found in answers:
        alike = pipeline.likeness(found.hypotheses)
        assert list(alike) == [h.mesh_id for h in found.hypotheses]
        assert alike[found.best.mesh_id] == pytest.approx(1.0, abs=1e-5)
        assert all(-1 <= alike[h.mesh_id] < 0.95 for h in found.hypotheses[1:])


def test_refinement_improves_on_the_coarse_poses(answers) -> None:
    before, after, gain = [], [], []
    for mesh_id, T, found in answers:
        coarse = next(h for h in found.coarse if h.mesh_id == mesh_id)
        before.append(rotation_angle(coarse.T_cam_obj[:3, :3], T[:3, :3]))
        after.append(rotation_angle(found.best.T_cam_obj[:3, :3], T[:3, :3]))
        gain.append(found.best.similarity - coarse.similarity)
    assert np.mean(after) < 0.8 * np.mean(before)
    assert np.min(gain) >= -1e-5
    assert np.mean(gain) > 0.01


def test_hypotheses_are_ranked_one_per_mesh_with_scores(pipeline: Pipeline, answers) -> None:
    for _, _, found in answers:
        ids = [h.mesh_id for h in found.hypotheses]
        assert len(set(ids)) == len(ids) <= 3
        scores = [h.score for h in found.hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= h.score <= 1 and -1 <= h.similarity <= 1 for h in found.hypotheses)
        assert found.best.margin > 1  # the coefficients of scores belong to the default encoder


def test_several_detections_of_one_frame_keep_their_order(bench, pipeline: Pipeline) -> None:
    shots = {}
    for mesh_id, R, z, place in (("block", ANYWHERE[0], 2.4, (-0.3, 0.0)), ("truck", STANDING[0], 10.0, (0.25, 0.0))):
        T = pose(bench, mesh_id, R, z, place)
        shots[mesh_id] = (T, *bench.photograph(mesh_id, T))
    left, right = shots["block"][1].image.copy(), shots["truck"][1].image
    left[:, 160:] = right[:, 160:]
    detections = [shots["truck"][2], shots["block"][2]]
    result = pipeline.detect(Frame(left, bench.camera), detections)
    assert [o.best.mesh_id for o in result.objects] == ["truck", "block"]
    assert [o.detection for o in result.objects] == detections
    alone = pipeline.detect(Frame(left, bench.camera), detections[1:]).objects[0]
    np.testing.assert_allclose(alone.best.T_cam_obj, result.objects[1].best.T_cam_obj, atol=1e-3)


def test_the_same_frame_gives_the_same_answer(bench, pipeline: Pipeline) -> None:
    frame, detection = bench.photograph("can", pose(bench, "can", ANYWHERE[1], 0.6, (0, 0)))
    first, again = (pipeline.detect(frame, [detection]).objects[0].best for _ in range(2))
    assert first.score == again.score
    np.testing.assert_array_equal(first.T_cam_obj, again.T_cam_obj)


def test_only_asks_for_the_pose_of_one_mesh(bench, pipeline: Pipeline) -> None:
    T = pose(bench, "block", ANYWHERE[2], 1.4, (0.1, 0.0))
    frame, detection = bench.photograph("block", T)
    other = dataclasses.replace(detection, id="again")
    free = pipeline.detect(frame, [detection]).objects[0]
    result = pipeline.detect(frame, [detection, other], only=["truck", None])
    assert {h.mesh_id for h in result.objects[0].hypotheses} == {"truck"}
    assert len(result.objects[0].hypotheses) == 1
    assert result.objects[1].best.mesh_id == free.best.mesh_id == "block"
    np.testing.assert_allclose(result.objects[1].best.T_cam_obj, free.best.T_cam_obj, atol=1e-3)


@pytest.mark.parametrize(
    ("only", "words"),
    [(["truck", "can"], "only: expected one entry per detection"), (["tram"], r"only: expected mesh ids .*\['tram'\]")],
)
def test_only_must_fit(bench, pipeline: Pipeline, only: list[str], words: str) -> None:
    frame, detection = bench.photograph("can", pose(bench, "can", ANYWHERE[0], 0.6, (0, 0)))
    with pytest.raises(ValueError, match=words):
        pipeline.detect(frame, [detection], only=only)


def test_boxes_that_cannot_be_used_are_returned_with_the_reason(bench, pipeline: Pipeline) -> None:
    frame, good = bench.photograph("can", pose(bench, "can", ANYWHERE[0], 0.6, (0, 0)))
    bad = [
        Detection(np.array([400.0, 10, 500, 90]), id="outside"),
        Detection(np.array([50.0, 50, 40, 90]), id="inverted"),
        Detection(np.array([50.0, 50, np.nan, 90]), id="nan"),
        Detection(np.array([50.0, 50, 52, 90]), id="thin"),
    ]
    result = pipeline.detect(frame, [bad[0], good, *bad[1:]])
    assert [o.detection for o in result.objects] == [good]
    assert [d.id for d, _ in result.rejected] == ["outside", "inverted", "nan", "thin"]
    for (_, reason), word in zip(result.rejected, ("outside", "x_min", "finite", "4"), strict=True):
        assert word in reason
    nothing = pipeline.detect(frame, bad)
    assert nothing.objects == ()
    assert len(nothing.rejected) == 4


def test_no_detections_are_an_empty_answer(bench, pipeline: Pipeline) -> None:
    frame, _ = bench.photograph("can", pose(bench, "can", ANYWHERE[0], 0.6, (0, 0)))
    result = pipeline.detect(frame, [])
    assert (result.objects, result.rejected) == ((), ())
    assert result.timings.crop >= 0
    assert result.timings.total == result.timings.tighten + result.timings.crop


def test_timings_are_of_every_stage_and_add_up(bench, pipeline: Pipeline) -> None:
    frame, detection = bench.photograph("can", pose(bench, "can", ANYWHERE[0], 0.6, (0, 0)))
    times = vars(pipeline.detect(frame, [detection]).timings)
    assert set(times) == {"tighten", "crop", "encode", "coarse", "refine", "rank", "lift"}
    assert min(times.values()) >= 0
    assert times["encode"] > 0
    assert times["refine"] > 0


def test_without_refinement_the_coarse_answer_stands(bench, library_path: Path) -> None:
    config = dataclasses.replace(CONFIG, refine=RefineConfig(iterations=0))
    unrefined = Pipeline(MeshLibrary.open(library_path), bench.encoder, config, CPU)
    frame, detection = bench.photograph("block", pose(bench, "block", ANYWHERE[3], 1.4, (0, 0)))
    found = unrefined.detect(frame, [detection]).objects[0]
    for mine, coarse in zip(found.hypotheses, found.coarse, strict=True):
        assert (mine.mesh_id, mine.score) == (coarse.mesh_id, coarse.score)
        np.testing.assert_array_equal(mine.T_cam_obj, coarse.T_cam_obj)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_an_object_of_the_so3_set_is_found_on_its_side(bench, pipeline: Pipeline, quarter: int) -> None:
    R = quarter_turn(quarter) @ look_at(0.4, 0.7)
    T = pose(bench, "block", R, 1.4, (0, 0))
    frame, detection = bench.photograph("block", T)
    best = pipeline.detect(frame, [detection]).objects[0].best
    assert best.mesh_id == "block"
    assert np.degrees(rotation_angle(best.T_cam_obj[:3, :3], R)) < 25


def test_an_upright_library_encodes_one_turn_and_never_answers_upside_down(bench, tmp_path: Path) -> None:
    build_library([bench.source("truck")], tmp_path / "lib", bench.encoder, bench.config)
    upright = Pipeline(MeshLibrary.open(tmp_path / "lib"), bench.encoder, CONFIG, CPU)
    assert upright.turns == (0,)
    frame, detection = bench.photograph("truck", pose(bench, "truck", quarter_turn(2) @ STANDING[0], 5.0, (0, 0)))
    best = upright.detect(frame, [detection]).objects[0].best
    assert (best.T_cam_obj[:3, :3] @ [0, 1, 0])[1] < 0  # its top is up in the image, wrong as that is here


def test_all_turns_are_encoded_where_one_mesh_needs_them(bench, pipeline: Pipeline) -> None:
    frame, detection = bench.photograph("can", pose(bench, "can", ANYWHERE[0], 0.6, (0, 0)))
    crops, _ = crop_detections(frame, [detection], pipeline.crop_spec)
    maps = pipeline.encode(crops)
    grid = bench.encoder.grid
    assert maps.shape == (1, 4, bench.encoder.dim, grid, grid)
    for turn in range(4):  # this encoder has no sense of direction, so a turned crop's map is the turned map
        torch.testing.assert_close(maps[:, turn], torch.rot90(maps[:, 0], turn, (2, 3)))


def test_lens_distortion_is_taken_out(bench, pipeline: Pipeline) -> None:
    """The same rays through a lens that moves the object by 5 pixels: id and pose are those of the photo without it."""
    camera = Camera(320, 240, bench.camera.K, np.array([-0.35, 0.1, 0.001, -0.001, 0.0]))
    T = pose(bench, "block", ANYWHERE[0], 1.8, (0.3, 0.18))
    frame, plain = bench.photograph("block", T)
    refine = dataclasses.replace(
        CONFIG.refine, contour_weight=0
    )  # contours choose between poses that features take for equal
    expected = pipeline.detect(frame, [plain], refine=refine).objects[0].best
    v, u = np.mgrid[0:240, 0:320] + 0.5
    ideal = undistort_points(np.stack([u, v], -1).reshape(-1, 2), camera).reshape(240, 320, 2) - 0.5
    image = cv2.remap(frame.image, ideal.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    corners = np.asarray(bench.meshes["block"].vertices) @ T[:3, :3].T + T[:3, 3]
    uv = distort_points(project(corners, camera.K), camera)
    detection = Detection(np.concatenate([uv.min(0), uv.max(0)]))
    best = pipeline.detect(Frame(image, camera), [detection], refine=refine).objects[0].best
    assert best.mesh_id == "block"
    assert np.degrees(rotation_angle(best.T_cam_obj[:3, :3], expected.T_cam_obj[:3, :3])) < 8
    found = middle(bench, "block", best.T_cam_obj)
    assert found[2] == pytest.approx(middle(bench, "block", expected.T_cam_obj)[2], rel=0.05)
    np.testing.assert_allclose(found[:2] / found[2], (0.3, 0.18), atol=0.005)  # 1.6 pixels


def test_without_an_index_every_mesh_is_searched_and_the_log_says_so(
    bench, pipeline: Pipeline, library_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(library_path, tmp_path / "lib")
    (tmp_path / "lib" / "bank.safetensors").unlink()
    slow = Pipeline(MeshLibrary.open(tmp_path / "lib"), bench.encoder, CONFIG, CPU)
    assert "has no index that this version reads: every mesh is searched exhaustively" in caplog.text
    frame, detection = bench.photograph("can", pose(bench, "can", ANYWHERE[1], 0.6, (0, 0)))
    maps = slow.encode(crop_detections(frame, [detection], slow.crop_spec)[0])
    exhaustive, shortlisted = (p.search(maps, torch.ones(1, 2))[0] for p in (slow, pipeline))
    assert exhaustive.mesh_index[0] == shortlisted.mesh_index[0]
    assert exhaustive.value[0] >= shortlisted.value[0] - 1e-6


def test_open_loads_library_and_encoder_that_belong_together(
    bench, library_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pasr_perception.library.opening.load_encoder", lambda config: (bench.encoder, CPU))
    opened = Pipeline.open(library_path, CONFIG)
    assert [e.id for e in opened.library.entries] == ["block", "can", "truck"]
    stranger = type("Stranger", (type(bench.encoder),), {"fingerprint": "another"})()
    monkeypatch.setattr("pasr_perception.library.opening.load_encoder", lambda config: (stranger, CPU))
    with pytest.raises(LibraryError, match="their features cannot be compared"):
        Pipeline.open(library_path)


def test_a_library_cut_short_or_replaced_while_in_use(bench, library_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lib"
    shutil.copytree(library_path, folder)
    running = Pipeline(MeshLibrary.open(folder), bench.encoder, CONFIG, CPU)
    frame, detection = bench.photograph("block", pose(bench, "block", ANYWHERE[0], 1.4, PLACES[0]))
    before = running.detect(frame, [detection]).objects[0].best
    shutil.move(folder, tmp_path / "old")  # replaced as a whole: what is mapped stays
    shutil.copytree(library_path, folder)
    assert running.detect(frame, [detection]).objects[0].best.similarity == before.similarity
    running = running.reopened(folder)
    running.detect(frame, [detection])
    file = folder / "data" / "block.safetensors"
    with file.open("r+b") as opened:
        opened.truncate(1000)
    with pytest.raises(LibraryError, match=r"block.safetensors: expected \d+ bytes, got 1000: cut short while in use"):
        running.detect(frame, [detection])
    with pytest.raises(LibraryError, match="expected"):
        running.reopened(folder)
    shutil.copy(library_path / "data" / "block.safetensors", file)
    after = running.reopened(folder).detect(frame, [detection]).objects[0].best
    assert (after.mesh_id, after.similarity) == ("block", before.similarity)


def test_the_box_network_is_loaded_once(bench, library_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(CONFIG, boxes=BoxConfig())
    running = Pipeline(MeshLibrary.open(library_path), bench.encoder, config, CPU)
    frame, detection = bench.photograph("can", pose(bench, "can", ANYWHERE[0], 0.6, (0, 0)))
    before = running.tightened(frame, [detection])[0].detection.box
    monkeypatch.setattr("pasr_perception.pipeline.Tightener", lambda *_: pytest.fail("loaded again"))
    after = running.reopened(library_path).tightened(frame, [detection])[0].detection.box
    np.testing.assert_array_equal(after, before)


def test_a_library_without_meshes_is_refused(bench, tmp_path: Path) -> None:
    build_library([], tmp_path / "lib", bench.encoder, bench.config)
    with pytest.raises(ValueError, match="expected at least one mesh"):
        Pipeline(MeshLibrary.open(tmp_path / "lib"), bench.encoder, CONFIG, CPU)


def test_loose_boxes_are_looked_through_as_tightened_and_named_as_they_came(bench, library_path: Path) -> None:
    config = dataclasses.replace(CONFIG, boxes=BoxConfig())
    pipeline = Pipeline(MeshLibrary.open(library_path), bench.encoder, config, CPU)
    frame, detection = bench.photograph("can", pose(bench, "can", ANYWHERE[0], 0.6, (0, 0)))
    side = np.tile(detection.box[2:] - detection.box[:2], 2)
    loose = dataclasses.replace(detection, box=detection.box + 0.1 * side * [-1, -1, 1, 1])
    outside = Detection(np.array([400.0, 10, 500, 90]), id="outside")
    tight, given = (pipeline.look(frame, [outside, loose], loose=way) for way in (True, False))
    assert tight.asked == given.asked == (loose,)
    assert [d for d, _ in tight.rejected] == [outside]
    assert tight.timings.tighten > 0
    np.testing.assert_array_equal(given.crops[0].detection.box, loose.box)
    looked = tight.crops[0].detection.box
    assert (looked[:2] > loose.box[:2]).all()
    assert (looked[2:] < loose.box[2:]).all()
    assert pipeline.explain(tight).objects[0].detection is loose
    assert given.crops[0].shown is None
    assert tight.crops[0].shown.shape == (bench.encoder.grid, bench.encoder.grid)


def test_weights_that_are_none_stop_the_start(bench, library_path: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, boxes=BoxConfig(weights=str(tmp_path / "none.safetensors")))
    with pytest.raises(EncoderError, match=r"none\.safetensors: holds no readable box network"):
        Pipeline(MeshLibrary.open(library_path), bench.encoder, config, CPU)
