from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pasr_perception.data.scene_layout import SceneMesh, arrange, choose_group, footprint, gap, standing


def box(x, y, z, up="+y", offset=(0.3, -0.2, 0.7)):
    mesh = trimesh.creation.box((x, y, z))
    mesh.apply_translation(offset)
    return SceneMesh(f"{x}x{y}x{z}", mesh, up)


def world_vertices(item, T):
    return np.asarray(item.mesh.vertices) @ T[:3, :3].T + T[:3, 3]


@pytest.mark.parametrize(
    ("up", "height"), [("+x", 0.2), ("-x", 0.2), ("+y", 0.5), ("-y", 0.5), ("+z", 0.9), ("-z", 0.9)]
)
def test_the_up_axis_points_up_and_the_mesh_stands_on_the_floor(up, height):
    item = box(0.2, 0.5, 0.9, up)
    T = standing(item, yaw=0.7)
    axis = np.zeros(3)
    axis["xyz".index(up[1])] = 1 if up[0] == "+" else -1
    np.testing.assert_allclose(T[:3, :3] @ axis, [0, 0, 1], atol=1e-12)
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1)
    at = world_vertices(item, T)
    assert at[:, 2].min() == pytest.approx(0, abs=1e-12)
    assert at[:, 2].max() == pytest.approx(height)
    np.testing.assert_allclose(at[:, :2].min(0) + at[:, :2].max(0), 0, atol=1e-12)


def test_gap_of_squares():
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    assert gap(square, square + np.array([1.25, 0])) == pytest.approx(0.25)
    assert gap(square, square + np.array([0.5, 0.2])) == pytest.approx(-0.5)
    diamond = np.array([[0.0, -0.5], [0.5, 0], [0, 0.5], [-0.5, 0]])
    # corner towards corner, where the bounding boxes overlap and the outlines do not
    assert gap(square, diamond + np.array([1.3, 1.3])) == pytest.approx((0.6 - 0.5) / np.sqrt(2))


def test_a_sheet_seen_from_its_edge_still_has_an_outline():
    sheet = SceneMesh("sheet", trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]], [[0, 1, 2]]), "+y")
    assert np.ptp(footprint(sheet, standing(sheet, 0.0)), axis=0) == pytest.approx([1.002, 0.002])


@pytest.mark.parametrize("spacing", [1.0, 1.5])
def test_objects_never_stand_in_each_other_and_stay_close(spacing):
    items = [box(*np.random.default_rng(i).uniform(0.1, 0.6, 3)) for i in range(9)]
    placed = arrange(items, spacing, np.random.default_rng(3))
    outlines = [footprint(p.source, p.T_world_obj) for p in placed]
    gaps = [gap(a, b) for i, a in enumerate(outlines) for b in outlines[:i]]
    assert min(gaps) > 0
    assert max(np.linalg.norm(p.T_world_obj[:2, 3]) for p in placed) < 1.5 * spacing
    assert len({p.id for p in placed}) == 9


def test_layouts_follow_the_seed():
    items = [box(0.2, 0.3, 0.4), box(0.3, 0.3, 0.3), box(0.1, 0.2, 0.2)]
    first, again, other = (arrange(items, 1.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[2].T_world_obj, again[2].T_world_obj)
    assert not np.allclose(first[2].T_world_obj, other[2].T_world_obj)


def test_groups_are_of_like_size_and_cover_the_library():
    diameters = np.concatenate([np.linspace(0.1, 0.2, 6), np.linspace(1.0, 2.0, 6)])
    used: set[int] = set()
    for number in range(4):
        group = choose_group(diameters, 4, used, np.random.default_rng(number))
        assert len(set(group)) == 4
        assert diameters[group].max() / diameters[group].min() < 2.1
        used.update(group)
    assert len(used) == 12


def test_few_meshes_are_repeated():
    assert sorted(choose_group([1.0, 1.1], 5, set(), np.random.default_rng(0))).count(0) in (2, 3)
