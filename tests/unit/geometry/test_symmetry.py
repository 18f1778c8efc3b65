"""Symmetries of shapes whose groups are known from school, and pose comparison under them."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from pasr_perception.geometry.symmetry import (
    NO_SYMMETRY,
    Symmetry,
    closest_symmetric_rotation_error,
    equivalent_poses,
    find_symmetries,
)

create = trimesh.creation
Z_CYLINDER = Symmetry.from_dict({"continuous_axes": [[0, 0, 1]], "folds": [{"axis": [1, 0, 0], "n": 2}]})


def surface(mesh: trimesh.Trimesh, seed: int = 1) -> np.ndarray:
    """4096 points about the middle of the bounding box."""
    points, _ = trimesh.sample.sample_surface(mesh, 4096, seed=seed)
    return np.asarray(points) - mesh.bounds.mean(0)


def turned(axis: list[float], degrees: float) -> np.ndarray:
    return Rotation.from_rotvec(np.asarray(axis) / np.linalg.norm(axis) * np.radians(degrees)).as_matrix()


def tilted(mesh: trimesh.Trimesh) -> tuple[trimesh.Trimesh, np.ndarray]:
    R = turned([1.0, 0.5, 0.2], 34.0)
    T = np.eye(4)
    T[:3, :3] = R
    return mesh.copy().apply_transform(T), R


@pytest.mark.parametrize(
    ("mesh", "order"),
    [
        (create.box((1, 2, 3)), 4),
        (create.box((1, 1, 3)), 8),
        (create.box((1, 1, 1)), 24),
        (create.box((1, 1.15, 3)), 4),
        (create.cylinder(radius=1, height=2, sections=3), 6),
        (create.cylinder(radius=1, height=2, sections=5), 10),
        (create.cylinder(radius=1, height=2, sections=6), 12),
    ],
    ids=["box", "square prism", "cube", "almost square", "triangle", "pentagon", "hexagon"],
)
def test_finite_groups_have_the_order_of_their_shape(mesh: trimesh.Trimesh, order: int) -> None:
    found = find_symmetries(surface(mesh))
    assert len(found.rotations) == order
    assert not found.continuous_axes


def test_cylinder_is_continuous_and_flips_but_a_cone_does_not_flip() -> None:
    cylinder = find_symmetries(surface(create.cylinder(radius=1, height=3)))
    cone = find_symmetries(surface(create.cone(radius=1, height=2)))
    assert (len(cylinder.rotations), len(cone.rotations)) == (72, 36)
    for found in (cylinder, cone):
        assert len(found.continuous_axes) == 1
        assert abs(found.continuous_axes[0][2]) > 0.999


def test_sphere_leaves_no_rotation_error() -> None:
    found = find_symmetries(surface(create.icosphere(4)))
    assert len(found.continuous_axes) == 3
    assert closest_symmetric_rotation_error(np.eye(3), turned([1, 2, 3], 73.0), found) == 0.0


def test_axis_off_the_coordinate_axes_is_found_within_two_degrees() -> None:
    mesh, R = tilted(create.cylinder(radius=1, height=3))
    found = find_symmetries(surface(mesh))
    assert len(found.rotations) == 72
    assert abs(R[:, 2] @ np.asarray(found.continuous_axes[0])) > np.cos(np.radians(2))


def test_axis_beside_the_middle_of_the_box_gives_the_fixed_point() -> None:
    """A can with a small tab at one side: the tab moves the box's middle by 0.25, the symmetry stays with the can."""
    tab = create.box((0.5, 0.2, 0.05)).apply_translation((1.25, 0, 0.5))
    can = trimesh.util.concatenate([create.cylinder(radius=1, height=2), tab])
    found = find_symmetries(surface(can))
    assert len(found.continuous_axes) == 1
    np.testing.assert_allclose(found.center[:2], (-0.25, 0.0), atol=0.04)


def test_a_mug_is_not_a_body_of_revolution() -> None:
    handle = create.torus(0.6, 0.1)
    handle.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0])).apply_translation((1.2, 0, 0))
    found = find_symmetries(surface(trimesh.util.concatenate([create.cylinder(radius=1, height=2), handle])))
    assert not found.continuous_axes
    assert len(found.rotations) == 2  # upside down about the handle's axis


def test_asymmetric_shape_has_the_identity_only() -> None:
    foot = create.box((2, 1, 1)).apply_translation((1.5, 0, -1))
    toe = create.box((0.5, 2, 0.5)).apply_translation((2.2, 1.4, -1.2))
    found = find_symmetries(surface(trimesh.util.concatenate([create.box((1, 1, 3)), foot, toe])))
    assert found.is_trivial


def test_every_rotation_found_maps_the_surface_onto_itself() -> None:
    mesh = create.cylinder(radius=1, height=2, sections=5)
    points = surface(mesh)
    found = find_symmetries(points)
    dense = cKDTree(np.asarray(trimesh.sample.sample_surface(mesh, 60_000, seed=2)[0]) - mesh.bounds.mean(0))
    for T in found.transforms:
        distance = dense.query(points[::16] @ T[:3, :3].T + T[:3, 3])[0]
        assert np.quantile(distance, 0.95) < 0.03 * np.linalg.norm(mesh.extents)


def test_plain_dict_round_trip_keeps_the_group() -> None:
    found = find_symmetries(surface(create.cylinder(radius=1, height=2, sections=5)))
    again = Symmetry.from_dict(found.to_dict())
    np.testing.assert_allclose(again.rotations, found.rotations, atol=1e-12)
    assert again.center == found.center


def test_from_dict_reads_nothing_as_no_symmetry_and_names_what_is_wrong() -> None:
    assert Symmetry.from_dict(None).is_trivial
    with pytest.raises(ValueError, match=r"unknown key.*axis"):
        Symmetry.from_dict({"axis": [0, 0, 1]})
    with pytest.raises(ValueError, match=r"symmetry\.folds\.n"):
        Symmetry.from_dict({"folds": [{"axis": [0, 0, 1], "n": 1}]})
    with pytest.raises(ValueError, match="continuous_axes"):
        Symmetry.from_dict({"continuous_axes": [[0, 0, 0]]})
    with pytest.raises(ValueError, match="more than 24"):
        _ = Symmetry.from_dict({"folds": [{"axis": [0, 0, 1], "n": 8}, {"axis": [1, 0, 0], "n": 8}]}).rotations
    for center in ([0, 0], [0, 0, float("nan")], "abc", 3):
        with pytest.raises(ValueError, match=r"symmetry\.center"):
            Symmetry.from_dict({"center": center})


def test_moved_scales_and_shifts_the_fixed_point() -> None:
    moved = Symmetry.from_dict({"folds": [{"axis": [0, 0, 1], "n": 2}], "center": [1, 0, 0]}).moved(0.5, np.ones(3))
    assert moved.center == (1.5, 1.0, 1.0)
    np.testing.assert_allclose(moved.transforms[1] @ [1.5, 1.0, 7.0, 1.0], [1.5, 1.0, 7.0, 1.0], atol=1e-12)


@pytest.mark.parametrize("spin", [0.0, 5.0, 123.0, 180.0])
@pytest.mark.parametrize("flip", [0.0, 180.0])
def test_error_under_a_continuous_axis_is_the_tilt_alone(spin: float, flip: float) -> None:
    R = turned([1, 1, 0], 40.0)
    seen = turned([0, 1, 0], 7.0)  # tilt of the axis, applied in the camera's frame about a direction across it
    other = R @ seen @ turned([0, 0, 1], spin) @ turned([1, 0, 0], flip)
    error = closest_symmetric_rotation_error(R, other, Z_CYLINDER)
    assert np.degrees(error) == pytest.approx(7.0, abs=1e-4)


def test_error_without_symmetry_is_the_plain_angle() -> None:
    assert closest_symmetric_rotation_error(np.eye(3), turned([3, 1, 2], 50.0), NO_SYMMETRY) == pytest.approx(
        np.radians(50.0)
    )


def test_equivalent_poses_start_with_the_pose_and_keep_the_fixed_point() -> None:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = turned([1, 2, 0], 30.0), (0.1, 0.2, 0.9)
    symmetry = Symmetry.from_dict({"folds": [{"axis": [0, 0, 1], "n": 4}], "center": [0.5, 0, 0]})
    poses = equivalent_poses(T, symmetry)
    assert poses.shape == (4, 4, 4)
    np.testing.assert_allclose(poses[0], T)
    fixed = poses @ np.array([0.5, 0.0, 0.3, 1.0])
    np.testing.assert_allclose(fixed, np.tile(fixed[0], (4, 1)), atol=1e-12)


@pytest.mark.parametrize("bad", [np.zeros((5, 3)), np.zeros((200, 2)), np.full((200, 3), np.nan), np.zeros((200, 3))])
def test_points_that_are_no_surface_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="points"):
        find_symmetries(bad)


GREY, RED = np.array([0.6, 0.6, 0.6]), np.array([0.8, 0.2, 0.1])


def painted(points: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.where(where[:, None], RED, GREY)


def test_one_red_side_leaves_a_square_prism_without_a_symmetry_and_two_leave_it_half() -> None:
    points = surface(create.box((1, 1, 3)))
    assert len(find_symmetries(points, colours=np.tile(GREY, (len(points), 1))).rotations) == 8
    one, two = points[:, 0] > 0.49, np.abs(points[:, 0]) > 0.49
    assert len(find_symmetries(points, colours=painted(points, one)).rotations) == 2  # about the red side's own axis
    assert len(find_symmetries(points, colours=painted(points, two)).rotations) == 4


def test_a_label_around_a_can_keeps_its_axis_and_one_on_its_side_does_not() -> None:
    points = surface(create.cylinder(radius=1, height=3))
    band = find_symmetries(points, colours=painted(points, np.abs(points[:, 2] - 0.6) < 0.5))
    assert len(band.continuous_axes) == 1
    assert not band.folds  # it is no longer the same upside down
    label = find_symmetries(points, colours=painted(points, (np.abs(points[:, 2]) < 0.8) & (points[:, 0] > 0.3)))
    assert not label.continuous_axes


def test_grain_and_a_sticker_smaller_than_a_twentieth_are_let_go() -> None:
    points = surface(create.cylinder(radius=1, height=3))
    grain = np.random.default_rng(0).uniform(-0.2, 0.2, (len(points), 1)) + GREY
    sticker = np.where(((np.abs(points[:, 2]) < 0.15) & (points[:, 0] > 0.8))[:, None], RED, grain)
    assert len(find_symmetries(points, colours=sticker).continuous_axes) == 1


def test_colours_of_another_shape_are_refused() -> None:
    points = surface(create.box((1, 2, 3)))
    with pytest.raises(
        ValueError, match=r"colours: expected one RGB colour per point, \(4096, 3\), got shape \(4096,\)"
    ):
        find_symmetries(points, colours=points[:, 0])
