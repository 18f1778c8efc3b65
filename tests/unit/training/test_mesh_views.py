"""Views to tune on: points are where the photo and the renderings show them; what is of no use is left out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pasr_perception.crop import CropSpec, crop_detection
from pasr_perception.data.synthetic.generate import PhotoPlan, generate_photos
from pasr_perception.data.synthetic.photo_set import VISIBLE, PhotoSet
from pasr_perception.data.synthetic.spec import PhotoSpec
from pasr_perception.encoders.efficientnet_lite import IMAGE_SIZE
from pasr_perception.geometry.viewpoints import random_rotations
from pasr_perception.library.lifted import sample_map
from pasr_perception.library.sample import normalised, sample_surface
from pasr_perception.training.mesh_views import (
    SAME_PLACE,
    ViewConfig,
    look_at_mesh,
    look_at_meshes,
    near_pose,
    seen_in_photo,
)
from pasr_perception.types import Detection, Frame

SMALL = ViewConfig(points=120, supersample=1)


class CellColours:
    """Mean colours of 28 x 28 cells in the first tap's place."""

    def first_tap(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images.float() / 255, IMAGE_SIZE // 28)


@pytest.fixture(scope="module")
def photos(bench, tmp_path_factory: pytest.TempPathFactory) -> PhotoSet:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("photos")
    spec = PhotoSpec(160, 120, object_size=(0.6, 0.8), looks={"own": 1.0}, clutter=0)
    made = generate_photos(folder, bench.sources, PhotoPlan(("L0",), 1, spec=spec, seed=5), 1)
    assert made.photos == 3
    return PhotoSet.open(folder)


def test_points_of_a_photo_lie_on_the_object_in_its_crop(bench, photos: PhotoSet) -> None:
    for record in photos.records:
        points = sample_surface(normalised(bench.meshes[record.mesh_id]), 300, seed=0).points
        visible = photos.mask(record)[0]
        shown = np.repeat((visible * VISIBLE).astype(np.uint8)[..., None], 3, 2)
        frame = Frame(shown, record.camera)
        crop = crop_detection(frame, Detection(np.array(record.box_whole)), CropSpec(IMAGE_SIZE, 0.8))
        uv, seen = seen_in_photo(points, photos, record, crop)
        assert 0.15 < seen.mean() < 0.7  # the far side is not
        white = torch.as_tensor(crop.image[..., :1]).permute(2, 0, 1).float()
        on_it = sample_map(white, torch.as_tensor(uv[seen]).float())[:, 0] > VISIBLE / 2
        assert on_it.float().mean() > 0.95


def test_a_pose_is_turned_by_no_more_than_the_limit() -> None:
    rng = np.random.default_rng(0)
    for rotation in random_rotations(20, rng):
        turn = near_pose(rotation, 0.4, rng) @ rotation.T
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        assert np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)) <= 0.4 + 1e-9


def test_views_show_the_same_points(bench, photos: PhotoSet) -> None:
    record = next(r for r in photos.records if r.mesh_id == "block")  # whose colours say where one is
    views = look_at_mesh(photos, record, CellColours(), SMALL)  # type: ignore[arg-type]
    count, points = len(views.seen), len(views.place)
    assert (count, views.first.shape, views.uv.shape) == (4, (4, 3, 28, 28), (4, points, 2))
    assert views.seen[0].all()
    assert views.place.norm(dim=1).max() <= 1 + SAME_PLACE
    common = views.common(0, 1)
    assert len(common) > 20
    photo, own = (sample_map(views.first[k].float(), views.uv[k, common]) for k in (0, 1))
    inside = ((views.uv[0, common] - 0.5).abs().amax(1) < 0.3) & ((views.uv[1, common] - 0.5).abs().amax(1) < 0.3)
    likeness = np.corrcoef(photo[inside].flatten(), own[inside].flatten())[0, 1]
    assert likeness > 0.5
    again = look_at_mesh(photos, record, CellColours(), SMALL)  # type: ignore[arg-type]
    assert torch.equal(views.first, again.first)


def test_what_is_too_heavy_or_of_another_part_is_left_out(
    photos: PhotoSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pasr_perception.data.split.split_of", lambda i: "validation" if i == "can" else "train")
    told: list[str] = []
    found = look_at_meshes(photos, "validation", CellColours(), SMALL, lambda what, done, total: told.append(what))  # type: ignore[arg-type]
    assert [views.id for views in found] == ["can"]
    assert told == ["can_L0_0000"]
    light = dataclasses.replace(SMALL, max_faces=100)
    with pytest.raises(ValueError, match="expected usable photos of validation meshes, got none"):
        look_at_meshes(photos, "validation", CellColours(), light)  # type: ignore[arg-type]
    assert "faces are more than the 100 wanted here" in caplog.text
