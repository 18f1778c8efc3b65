"""What gives the same picture and what does not, on boxes that one side tells apart."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pasr_perception.data.synthetic.photo_set import PhotoRecord
from pasr_perception.evaluation.same_picture import SamePicture
from pasr_perception.geometry.se3 import make_T

SIDES = (0.4, 0.3, 0.1)
BEHIND, BEFORE = np.eye(3), np.diag([-1.0, 1, -1])  # which side of a plate is seen


def plate(sides: tuple[float, float, float] = SIDES) -> trimesh.Trimesh:
    return trimesh.creation.box(sides)


def with_a_knob(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """On the side that is seen in `BEFORE`."""
    knob = trimesh.creation.box((0.1, 0.1, 0.04))
    knob.apply_translation((0.08, 0.05, 0.05))
    return trimesh.util.concatenate([mesh, knob])


def painted(mesh: trimesh.Trimesh, colour: tuple[int, int, int]) -> trimesh.Trimesh:
    mesh.visual.face_colors = (*colour, 255)
    return mesh


class Meshes:
    """As a library hands them out."""

    def __init__(self) -> None:
        moved = plate()
        moved.apply_transform(make_T(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([3.0, 1, 2])))
        moved.apply_scale(5)
        self._meshes = {
            "plate": plate(),
            "turned, moved and larger": moved,
            "with a knob": with_a_knob(plate()),
            "thicker": plate((0.4, 0.3, 0.2)),
            "red": painted(plate(), (200, 30, 30)),
        }

    def load_mesh(self, mesh_id: str) -> trimesh.Trimesh:
        return self._meshes[mesh_id]


def photo(mesh_id: str = "plate", rotation: np.ndarray = BEHIND, look: str = "recoloured") -> PhotoRecord:
    """Of a mesh that is seen a little from above and beside the camera's axis."""
    angle = 0.3
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    pose = make_T(tilt @ rotation, np.array([0.2, 0.1, 1.5]))
    K = (600.0, 0, 320, 0, 600, 240, 0, 0, 1)
    boxes = (100.0, 100, 200, 200)
    mesh = Meshes().load_mesh(mesh_id)
    size = tuple(float(v) for v in mesh.extents)
    name = f"{mesh_id} {look}"
    return PhotoRecord(
        name,
        mesh_id,
        "L0",
        0.0,
        0.0,
        look,
        (),
        640,
        480,
        K,
        tuple(pose.ravel()),
        boxes,
        boxes,
        (0, 0, 0),
        size,
        1e-3,
        {},
    )


@pytest.mark.parametrize(
    ("answered", "rotation", "look", "same"),
    [
        ("turned, moved and larger", BEHIND, "recoloured", True),
        ("with a knob", BEHIND, "recoloured", True),
        ("with a knob", BEFORE, "recoloured", True),  # a plate may be turned so that its back is seen
        ("thicker", BEHIND, "recoloured", False),
        ("red", BEHIND, "recoloured", True),
        ("red", BEHIND, "own", False),
        ("plate", BEHIND, "own", True),
    ],
)
def test_a_mesh_gives_the_picture_or_does_not(answered: str, rotation: np.ndarray, look: str, same: bool) -> None:
    assert SamePicture(Meshes())(photo("plate", rotation, look), answered) is same


def test_what_one_side_shows_tells_apart_from_that_side_alone() -> None:
    ask = SamePicture(Meshes())
    assert not ask(photo("with a knob", BEFORE), "plate")
    assert ask(photo("with a knob", BEHIND, "textured"), "plate")
