from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pasr_perception.data.scene import SceneSpec, simulate
from pasr_perception.data.scene_layout import SceneMesh


def library(count=8):
    meshes = []
    for number in range(count):
        rng = np.random.default_rng(number)
        mesh = trimesh.creation.box(rng.uniform(0.2, 0.5, 3))
        mesh.apply_translation(rng.uniform(-1, 1, 3))
        mesh.visual.face_colors = np.r_[rng.integers(30, 255, 3), 255]
        meshes.append(SceneMesh(f"box{number}", mesh, "+z"))
    return meshes


SPEC = SceneSpec(frames=4, scenes=2, objects=7, min_detected=6, width=160, height=120, seed=3)


@pytest.fixture(scope="module")
def frames():
    return list(simulate(library(), SPEC))


def test_stamps_sizes_and_ids(frames):
    stamps = np.array([f.frame.stamp_ns for f in frames])
    np.testing.assert_array_equal(np.diff(stamps), 10**8)
    assert all(f.frame.image.shape == (120, 160, 3) for f in frames)
    first, second = ({t.id for t in f.truths} for f in (frames[0], frames[3]))
    assert not first & second
    assert {t.id for t in frames[0].truths} & {t.id for t in frames[1].truths}


def test_enough_objects_are_detected(frames):
    for item in frames:
        assert len(item.detections) >= 4  # at this size many are under 24 px
        assert {d.id for d in item.detections} <= {t.id for t in item.truths}


def test_visible_boxes_agree_with_the_projected_mesh(frames):
    meshes = {m.id: m.mesh for m in library()}
    compared = 0
    for item in frames:
        for truth in item.truths:
            points = np.asarray(meshes[truth.mesh_id].vertices) @ truth.T_cam_obj[:3, :3].T + truth.T_cam_obj[:3, 3]
            uv = points @ item.frame.camera.K.T
            uv = uv[:, :2] / uv[:, 2:]
            whole = np.concatenate([np.clip(uv.min(0), 0, [160, 120]), np.clip(uv.max(0), 0, [160, 120])])
            # nothing is seen outside of the outline; all of it where nothing hides it
            assert (truth.box[:2] >= whole[:2] - 0.51).all()
            assert (truth.box[2:] <= whole[2:] + 0.51).all()
            if truth.visible_fraction > 0.995:
                np.testing.assert_allclose(truth.box, whole, atol=0.75)
                compared += 1
            np.testing.assert_allclose(truth.size, meshes[truth.mesh_id].extents)
    assert compared >= 3


def test_some_objects_are_partly_hidden(frames):
    fractions = [t.visible_fraction for f in frames for t in f.truths]
    assert any(0.05 < f < 0.9 for f in fractions)
    assert max(fractions) <= 1


def test_objects_are_seen_in_their_own_colour(frames):
    # hue survives light and photo effects: red-green-blue order of the middle of well visible boxes
    meshes = {m.id: m.mesh for m in library()}
    agree = []
    for item in frames:
        for truth in item.truths:
            if truth.visible_fraction > 0.95:
                x, y = ((truth.box[:2] + truth.box[2:]) / 2).astype(int)
                seen = item.frame.image[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))
                colour = meshes[truth.mesh_id].visual.face_colors[0, :3].astype(float)
                agree.append(np.corrcoef(seen, colour)[0, 1] > 0.8)
    assert len(agree) >= 3
    assert np.mean(agree) > 0.8


def test_the_same_seed_gives_the_same_frames(frames):
    again = next(simulate(library(), SPEC))
    np.testing.assert_array_equal(again.frame.image, frames[0].frame.image)
    np.testing.assert_array_equal(again.detections[0].box, frames[0].detections[0].box)


def test_no_meshes_and_bad_settings_are_refused():
    with pytest.raises(ValueError, match="meshes"):
        next(simulate([], SPEC))
    with pytest.raises(ValueError, match="rate_hz"):
        SceneSpec(rate_hz=0)
    with pytest.raises(ValueError, match="frames"):
        SceneSpec(frames=0)
    with pytest.raises(ValueError, match="64x64"):
        SceneSpec(width=10)
