"""Known poses, random cameras, boxes exact, jittered and clipped: the translation comes back as documented."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pasr_perception import lift
from pasr_perception.crop import CropSpec, clipped_edges, virtual_camera
from pasr_perception.geometry.camera import distort_points, project, rays, undistort_points
from pasr_perception.lift import MIN_DEPTH, LiftError, displaced, lift_rate, lift_translation, pose_in_camera
from pasr_perception.types import Camera, Crop, Detection

SPEC = CropSpec(448, 0.8)
NO_IMAGE = np.zeros((0, 0, 3), np.uint8)  # the lift stage never looks at the picture


@dataclass(frozen=True)
class Case:
    """An object at a known pose, and the exact box of what the camera sees of it."""

    camera: Camera
    points: np.ndarray  # [N, 3] centred
    R: np.ndarray  # R_cam_obj
    t: np.ndarray  # t_cam_obj of the centred object
    box: np.ndarray
    cut: np.ndarray  # [4] bool, edges that the image border cuts

    def crop(self, box: np.ndarray | None = None) -> Crop:
        box = self.box if box is None else box
        K, R, box_crop = virtual_camera(box, self.camera, SPEC)
        return Crop(NO_IMAGE, K, R, box_crop, clipped_edges(box, self.camera), Detection(box))

    def error(
        self, box: np.ndarray | None = None, camera: Camera | None = None, turn: np.ndarray | None = None
    ) -> float:
        """Error of the translation as a share of the distance; `turn` [3] is a rotation error."""
        crop = self.crop(box)
        R = self.R if turn is None else self.R @ Rotation.from_rotvec(turn).as_matrix()
        T = self.lifted(R, crop, camera)
        return float(np.linalg.norm(T[:3, 3] - self.t) / np.linalg.norm(self.t))

    def lifted(self, R_cam_obj: np.ndarray, crop: Crop, camera: Camera | None) -> np.ndarray:
        R_crop_obj = crop.R_cam_crop.T @ R_cam_obj
        t = lift_translation(self.points, R_crop_obj, crop, camera)
        assert np.isfinite(t).all()
        assert t[2] >= MIN_DEPTH * np.linalg.norm(self.points, axis=1).max() - 1e-9
        return pose_in_camera(R_crop_obj, t, crop, np.zeros(3))


def random_camera(rng: np.random.Generator, distorted: bool) -> Camera:
    width, height = [(640, 480), (1280, 720), (1920, 1080)][rng.integers(3)]
    focal = width / 2 / np.tan(np.radians(rng.uniform(30, 100)) / 2)
    middle = np.array([width, height]) * rng.uniform(0.46, 0.54, 2)
    K = np.array([[focal, 0, middle[0]], [0, focal * rng.uniform(0.97, 1.03), middle[1]], [0, 0, 1]])
    lens = [rng.uniform(-0.3, 0.1), rng.uniform(-0.02, 0.1), *rng.normal(0, 5e-4, 2), 0.0]
    return Camera(width, height, K, np.array(lens if distorted else []))


def random_points(rng: np.random.Generator, count: int = 1200) -> np.ndarray:
    """The surface of a box, a thin plate or rod, or an ellipsoid; centred by its bounds."""
    kind = rng.integers(3)
    points = rng.uniform(-1, 1, (count, 3))
    if kind == 0:
        points[np.arange(count), rng.integers(0, 3, count)] = rng.choice([-1, 1], count)
    elif kind == 1:
        points *= rng.uniform(0.02, 1, 3)
    else:
        points = rng.normal(size=(count, 3))
        points *= rng.uniform(0.2, 1, 3) / np.linalg.norm(points, axis=1, keepdims=True)
    points -= (points.min(0) + points.max(0)) / 2
    return points * rng.uniform(0.03, 0.5) / np.linalg.norm(points, axis=1).max()


def random_case(rng: np.random.Generator, distorted: bool) -> Case | None:
    """A case somewhere in the image, 2 to 12 radii away; None where the camera cannot see it well."""
    camera, points = random_camera(rng, distorted), random_points(rng)
    size = np.array([camera.width, camera.height], dtype=np.float64)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * size
    if not np.isfinite(undistort_points(corners, camera)).all():
        return None  # no calibration of this field of view has such a lens
    aim = rays(undistort_points(rng.uniform(0, 1, (1, 2)) * size, camera), camera.K)[0]
    R = Rotation.random(rng=rng).as_matrix()
    radius = np.linalg.norm(points, axis=1).max()
    t = aim / np.linalg.norm(aim) * radius * rng.uniform(2, 12)
    if not t[2] > 1.2 * radius:
        return None
    uv = distort_points(project(points @ R.T + t, camera.K), camera)
    if not np.isfinite(uv).all():
        return None
    bounds = np.concatenate([uv.min(0), uv.max(0)])
    box = np.clip(bounds, 0, np.tile(size, 2))
    return Case(camera, points, R, t, box, bounds != box) if (box[2:] - box[:2]).min() >= 8 else None


def cases(count: int, wanted: Callable[[Case], bool], distorted: bool = False, seed: int = 0) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    while count:
        case = random_case(rng, distorted)
        if case is not None and wanted(case):
            count -= 1
            yield case


def whole(case: Case) -> bool:
    return not clipped_edges(case.box, case.camera).any()


def clipped(*edges: int) -> Callable[[Case], bool]:
    """Exactly these edges are cut, and no other comes so near the border that it could be."""
    expected = np.isin(np.arange(4), edges)
    return lambda case: bool((case.cut == expected).all() and (clipped_edges(case.box, case.camera) == expected).all())


def jitter(case: Case, rng: np.random.Generator) -> np.ndarray:
    """Every free edge moves evenly within 5 % of the box's side; cut ones stay on the border."""
    sides = np.tile(case.box[2:] - case.box[:2], 2)
    moved = case.box + 0.05 * sides * rng.uniform(-1, 1, 4)
    size = np.tile([case.camera.width, case.camera.height], 2)
    return np.where(case.cut, case.box, np.clip(moved, 0, size))


@pytest.mark.parametrize("distorted", [False, True], ids=["pinhole", "distorted"])
def test_exact_boxes_give_the_translation_back(distorted: bool):
    errors = [case.error(camera=case.camera) for case in cases(200, whole, distorted)]
    assert max(errors) < 1e-6


@pytest.mark.parametrize("distorted", [False, True], ids=["pinhole", "distorted"])
def test_jittered_boxes_err_as_documented(distorted: bool):
    rng = np.random.default_rng(1)
    errors = [case.error(jitter(case, rng), case.camera) for case in cases(400, whole, distorted)]
    assert np.median(errors) < 0.027
    assert np.percentile(errors, 90) < 0.06
    assert max(errors) < 0.15


def test_rotations_some_degrees_off_cost_little_more():
    rng = np.random.default_rng(2)
    turned = [
        case.error(jitter(case, rng), case.camera, rng.normal(size=3) * np.radians(5)) for case in cases(300, whole)
    ]
    assert np.median(turned) < 0.033
    assert np.percentile(turned, 90) < 0.09


def test_without_the_camera_the_crop_box_is_nearly_as_good():
    errors = [case.error() for case in cases(400, whole)]
    assert np.median(errors) < 0.005
    assert np.percentile(errors, 90) < 0.03


@pytest.mark.parametrize("distorted", [False, True], ids=["pinhole", "distorted"])
@pytest.mark.parametrize("edge", range(4))
def test_one_clipped_edge_costs_nothing(edge: int, distorted: bool):
    errors = [case.error(camera=case.camera) for case in cases(12, clipped(edge), distorted)]
    assert max(errors) < 1e-5


def test_taking_a_clipped_edge_at_its_word_would_cost_much():
    """What the `clipped` flags are for: the same boxes without them."""

    def believed(case: Case) -> float:
        crop = replace(case.crop(), clipped=np.zeros(4, dtype=bool))
        T = case.lifted(case.R, crop, case.camera)
        return float(np.linalg.norm(T[:3, 3] - case.t) / np.linalg.norm(case.t))

    assert np.median([believed(case) for case in cases(30, clipped(0))]) > 0.1


def test_two_opposite_edges_clipped_leave_the_depth_known():
    """Top and bottom cut: the sides fix size and sideways place, the image what the upright shift can be."""
    for case in cases(4, clipped(1, 3)):
        crop = case.crop()
        T = case.lifted(case.R, crop, case.camera)
        uv = project(case.points @ T[:3, :3].T + T[:3, 3], case.camera.K)
        np.testing.assert_allclose([uv[:, 0].min(), uv[:, 0].max()], case.box[[0, 2]], atol=0.01)
        assert uv[:, 1].min() < 0.01
        assert uv[:, 1].max() > case.camera.height - 0.01
        assert np.linalg.norm(T[:3, 3] - case.t) < 0.2 * np.linalg.norm(case.t)


@pytest.mark.parametrize("distorted", [False, True], ids=["pinhole", "distorted"])
def test_two_adjacent_edges_clipped_give_the_least_object_that_explains_the_box(distorted: bool):
    errors = []
    for case in cases(30, clipped(0, 1), distorted):
        T = case.lifted(case.R, case.crop(), case.camera)
        uv = distort_points(project(case.points @ T[:3, :3].T + T[:3, 3], case.camera.K), case.camera)
        low, high = np.nanmin(uv, axis=0), np.nanmax(uv, axis=0)
        np.testing.assert_allclose(high, case.box[2:], atol=0.05)  # the free edges are met
        assert (low < 0.05).all()  # the object reaches the border on both cut sides
        assert T[2, 3] > (1 - 1e-3) * 0.75 * case.t[2]
        errors.append(np.linalg.norm(T[:3, 3] - case.t) / np.linalg.norm(case.t))
    assert np.median(errors) < 0.35


@pytest.mark.parametrize("edges", [(), (0,), (3,), (0, 1), (1, 3)])
def test_the_loop_ends_where_arrays_do(edges: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    for case in cases(3 if edges == (1, 3) else 20, clipped(*edges) if edges else whole):
        crop = case.crop(jitter(case, rng))
        for camera in (case.camera, None):
            found = case.lifted(case.R, crop, camera)
            with monkeypatch.context() as patched:
                patched.setattr(lift, "_pinhole", lambda rotation, K: None)
                twin = case.lifted(case.R, crop, camera)
            assert np.abs(found - twin).max() < 1e-5 * np.linalg.norm(twin[:3, 3])


def test_the_mesh_frame_need_not_be_centred():
    rng = np.random.default_rng(5)
    for case in cases(20, whole):
        center, crop = rng.uniform(-1, 1, 3), case.crop()
        R_crop_obj = crop.R_cam_crop.T @ case.R
        T = pose_in_camera(R_crop_obj, lift_translation(case.points, R_crop_obj, crop, case.camera), crop, center)
        mesh_points = case.points + center
        np.testing.assert_allclose(T[:3, :3], case.R, atol=1e-9)
        moved = mesh_points @ T[:3, :3].T + T[:3, 3]
        np.testing.assert_allclose(moved, case.points @ case.R.T + case.t, atol=1e-5 * np.linalg.norm(case.t))


def test_poses_go_from_camera_to_crop_and_back_exactly():
    rng = np.random.default_rng(6)
    for case in cases(50, whole, distorted=True):
        crop, center = case.crop(), rng.uniform(-1, 1, 3)
        T = pose_in_camera(crop.R_cam_crop.T @ case.R, crop.R_cam_crop.T @ (case.R @ center + case.t), crop, center)
        np.testing.assert_allclose(T[:3, :3], case.R, atol=1e-9)
        np.testing.assert_allclose(T[:3, 3], case.t, atol=1e-9)
        np.testing.assert_array_equal(T[3], [0, 0, 0, 1])


def a_case() -> Case:
    return next(cases(1, whole))


def test_a_single_stick_seen_end_on_still_has_a_place():
    """Nothing but perspective gives it a size: the depth may be far off, but it is a number in front of the camera."""
    case = a_case()
    crop = case.crop()
    stick = np.linspace([0, 0, -0.1], [0, 0, 0.1], 20)
    for camera in (None, case.camera):
        t = lift_translation(stick, np.eye(3), crop, camera)
        assert np.isfinite(t).all()
        assert t[2] >= MIN_DEPTH * 0.1 - 1e-9


def test_boxes_that_make_no_sense_still_give_numbers():
    """Random boxes, whatever the object: never NaN, never inside the object (checked in `lifted`)."""
    rng = np.random.default_rng(7)
    for case in cases(100, lambda case: True, distorted=True):
        size = np.array([case.camera.width, case.camera.height])
        corner = rng.uniform(0, 0.9, 2)
        box = np.concatenate([corner * size, (corner + (1 - corner) * rng.uniform(0.05, 1, 2)) * size])
        case.lifted(case.R, case.crop(box), case.camera)
        case.lifted(case.R, case.crop(box), None)


@pytest.mark.parametrize("box", [[10, 10, 10, 50], [10, 50, 60, 10], [np.nan, 0, 1, 1], [0, 0, np.inf, 5]])
def test_a_degenerate_box_is_named(box: list[float]):
    case = a_case()
    crop = case.crop()
    with pytest.raises(LiftError, match=r"crop\.box: expected"):
        lift_translation(case.points, np.eye(3), replace(crop, box=np.array(box)))
    bad = replace(crop, detection=Detection(np.array(box)))
    with pytest.raises(LiftError, match=r"crop\.detection\.box"):
        lift_translation(case.points, np.eye(3), bad, case.camera)


@pytest.mark.parametrize(
    ("points", "R", "words"),
    [
        (np.zeros((0, 3)), np.eye(3), "points_obj: expected shape"),
        (np.zeros((5, 2)), np.eye(3), "points_obj: expected shape"),
        (np.zeros((5, 3)), np.eye(3), "points_obj: expected points of some extent"),
        (np.full((5, 3), np.nan), np.eye(3), "points_obj: expected finite"),
        (np.ones((5, 3)), np.diag([1, 1, -1]), "R_crop_obj: expected a rotation"),
        (np.ones((5, 3)), np.full((3, 3), np.nan), "R_crop_obj: expected a rotation"),
    ],
)
def test_unusable_arguments_are_named(points: np.ndarray, R: np.ndarray, words: str):
    with pytest.raises(LiftError, match=words):
        lift_translation(points, R, a_case().crop())


def test_the_rate_is_the_derivative_by_differences() -> None:
    step = 1e-4
    for case in cases(20, whole, distorted=True):
        crop = case.crop()
        R = crop.R_cam_crop.T @ case.R

        def lifted(w: np.ndarray, R: np.ndarray = R, crop: Crop = crop, case: Case = case) -> np.ndarray:
            return lift_translation(case.points, Rotation.from_rotvec(w).as_matrix() @ R, crop, case.camera)

        rate = lift_rate(case.points, R, lifted(np.zeros(3)), crop, case.camera)
        differences = np.stack([(lifted(step * a) - lifted(-step * a)) / (2 * step) for a in np.eye(3)], 1)
        np.testing.assert_allclose(rate, differences, atol=1e-3 * np.linalg.norm(differences))


def test_a_rate_where_nothing_is_seen_is_refused() -> None:
    case = a_case()
    crop = case.crop()
    behind = np.array([0.0, 0.0, 1e-9])
    with pytest.raises(LiftError, match="t_crop: expected points that the camera sees"):
        lift_rate(case.points - [0, 0, 1e3], np.eye(3), behind, crop, case.camera)


def test_a_displacement_makes_up_for_a_box_that_is_off() -> None:
    """The box of an object that is shifted and scaled in its crop; refinement undoes it, and the known pose comes back."""
    errors = []
    for case in cases(40, lambda c: whole(c) and np.linalg.norm(c.t) > 3 * np.linalg.norm(c.points, axis=1).max()):
        crop = case.crop()
        R, size = crop.R_cam_crop.T @ case.R, 2 * crop.K_crop[0, 2]
        seen = project(case.points @ R.T + crop.R_cam_crop.T @ case.t, crop.K_crop)
        shift, log_scale = np.array([0.04, -0.03]), 0.1
        bounds = (np.concatenate([seen.min(0), seen.max(0)]) - size / 2) * np.exp(-log_scale) + size / 2
        loose = replace(crop, box=bounds - np.tile(shift * size, 2))
        t = displaced(lift_translation(case.points, R, loose), np.append(shift, log_scale), loose)
        errors.append(np.linalg.norm(crop.R_cam_crop @ t - case.t) / np.linalg.norm(case.t))
    # a scaled image is a nearer object but for perspective: exact far away, some percent at 3 radii
    assert np.median(errors) < 0.01
    assert max(errors) < 0.05


def test_no_displacement_is_what_the_box_says() -> None:
    crop = next(cases(1, whole)).crop()
    t = np.array([0.1, -0.2, 2.0])
    np.testing.assert_allclose(displaced(t, np.zeros(3), crop), t)
    f, size = crop.K_crop[0, 0], 2 * crop.K_crop[0, 2]
    np.testing.assert_allclose(
        displaced(t, np.array([0.1, 0, np.log(2)]), crop), [(0.05 + 0.1 * size / f), -0.1, 1.0], atol=1e-12
    )
