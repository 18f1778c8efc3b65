"""What a look or a search does to a track: equivalent poses, rivals that overtake, measurements that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pasr_perception.geometry.se3 import make_T
from pasr_perception.track.identity import EVEN, looked_again
from pasr_perception.track.looking import JUMP_EVIDENCE, STRIKES
from pasr_perception.types import TrackState


def about_y(degrees: float, T: np.ndarray) -> np.ndarray:
    return make_T(Rotation.from_euler("y", degrees, degrees=True).as_matrix() @ T[:3, :3], T[:3, 3])


def test_the_other_pose_of_a_symmetric_object_is_no_flip(film):
    it = film()
    thing = it.world.put("a", "box")
    it.settle("a")
    before = it.step(it.world.detection("a")).objects[0].hypotheses[0].T_cam_obj
    thing.T_cam_obj = about_y(180, thing.T_cam_obj)
    told = it.step(it.world.detection("a")).objects[0]
    assert told.measured
    np.testing.assert_allclose(told.hypotheses[0].T_cam_obj, before, atol=1e-6)


def test_a_search_that_finds_the_other_pose_leaves_rivals_where_they_were_found(film):
    """A rival's pose is kept relative to the best mesh's, which may have been replaced by an equivalent one."""
    it = film(budget_s=5.0)
    thing = it.world.put("a", "box", can=6.5)
    can = about_y(30, thing.T_cam_obj)
    thing.poses = {"can": can}
    it.settle("a")
    (track,) = it.tracker._tracks
    thing.poses = {"box": about_y(180, thing.T_cam_obj), "can": can}
    track.strikes = STRIKES  # searched, not looked at
    searches = len(it.world.searched)
    found = {h.mesh_id: h.T_cam_obj for h in it.step(it.world.detection("a"), after_s=1.0).objects[0].hypotheses}
    assert len(it.world.searched) == searches + 1
    np.testing.assert_allclose(found["box"], thing.T_cam_obj, atol=1e-6)
    np.testing.assert_allclose(found["can"], can, atol=1e-6)


def test_rivals_are_looked_at_now_and_then_and_may_overtake(film):
    it = film(rival_every=3, confirm=0.7)
    thing = it.world.put("a", "mug", can=6.0)
    it.settle("a", frames=25)
    it.world.looked.clear()
    it.settle("a", frames=9)
    assert [meshes for _, meshes in it.world.looked].count(("mug", "can")) == 3
    thing.margins = {"can": 9.0, "mug": 1.0}
    told = it.settle("a", frames=40).objects[0]
    assert told.track_id == 1
    assert told.hypotheses[0].mesh_id == "can"
    np.testing.assert_allclose(told.hypotheses[0].T_cam_obj, thing.T_cam_obj, atol=1e-6)


@pytest.mark.parametrize(("alike", "state"), [(0.85, TrackState.TENTATIVE), (0.2, TrackState.TRACKED)])
def test_what_looks_like_another_mesh_from_here_stays_tentative(film, alike, state):
    it = film()
    it.world.put("a", "mug", margin=9.0, can=7.0)
    it.world.alike = alike
    told = it.settle("a", frames=40).objects[0]
    assert told.state is state
    assert told.ambiguous is (state is TrackState.TENTATIVE)


def test_look_alikes_are_told_as_ambiguous(film):
    it = film()
    it.world.put("a", "mug", margin=6.0, can=5.8)
    told = it.settle("a", frames=3).objects[0]
    assert told.state is TrackState.TENTATIVE
    assert told.ambiguous
    assert {h.mesh_id for h in told.hypotheses} == {"mug", "can"}


def test_a_measurement_beyond_the_gate_is_not_told_as_measured(film):
    it = film()
    thing = it.world.put("a")
    it.settle("a", frames=20)
    at_rest = it.step(it.world.detection("a")).objects[0].hypotheses[0].T_cam_obj
    box = it.world.detection("a")
    thing.T_cam_obj = about_y(80, thing.T_cam_obj)
    told = it.step(box).objects[0]
    assert not told.measured
    assert (told.state, told.reason) == (TrackState.COASTING, "its last looks did not fit")
    np.testing.assert_allclose(told.hypotheses[0].T_cam_obj, at_rest, atol=1e-3)


def test_an_object_that_jumped_is_where_it_is_after_a_few_looks(film):
    it = film()
    thing = it.world.put("a")
    it.settle("a", frames=20)
    thing.T_cam_obj = about_y(80, thing.T_cam_obj)
    told = it.settle("a", frames=15).objects[0]
    assert told.state is TrackState.TRACKED
    np.testing.assert_allclose(told.hypotheses[0].T_cam_obj[:3, :3], thing.T_cam_obj[:3, :3], atol=0.1)


def test_uncertainty_falls_with_looks_and_grows_out_of_sight(film):
    def spread(result) -> float:
        return float(np.trace(result.objects[0].hypotheses[0].covariance))

    it = film()
    it.world.put("a")
    first = spread(it.step(it.world.detection("a")))
    settled = spread(it.settle("a", frames=10))
    gone = spread(it.step(after_s=1.5))
    assert settled < 0.5 * first
    assert gone > settled
    assert it.step(after_s=0.1).objects[0].metric == "box"


@pytest.mark.parametrize("margin", [-3.0, -1.0])
def test_evidence_against_the_mesh_makes_a_track_tentative_again(film, margin):
    it = film()
    thing = it.world.put("a")
    it.settle("a", frames=10)
    thing.margins = {"mug": margin}
    told = it.settle("a", frames=200).objects[0]
    assert told.state is TrackState.TENTATIVE
    assert told.unknown > 0.5
    assert told.hypotheses == ()


def test_a_mesh_of_the_wrong_size_jumps_when_the_camera_moves(film):
    """Seen with a known camera's way, a thing taken for too small a mesh is never where it was."""
    it = film(budget_s=5.0)
    thing = it.world.put("a", "mug")
    it.step(it.world.detection("a"), T=np.eye(4))
    (track,) = it.tracker._tracks
    before, recent = track.identity.evidence["mug"], track.recent
    thing.margins = {"mug": EVEN}  # says nothing by itself
    it.step(it.world.detection("a"), T=make_T(np.eye(3), np.array([0.4, 0, 0])))
    weight = looked_again(recent, it.stamp_ns)[1]
    assert track.identity.evidence["mug"] == pytest.approx(before - weight * JUMP_EVIDENCE)


def test_a_mesh_that_is_sure_is_searched_until_its_pose_is_too(film):
    """Looks from a pose follow it, so that only another search says that it was no wrong maximum."""
    it = film()
    thing = it.world.put("a", margin=12.0)
    for degrees in (0, 80, 160):
        thing.T_cam_obj = about_y(degrees, make_T(np.eye(3), thing.T_cam_obj[:3, 3]))
        told = it.step(it.world.detection("a"), after_s=1.0).objects[0]
        assert told.state is TrackState.TENTATIVE
    told = it.settle("a", frames=10).objects[0]
    assert told.state is TrackState.TRACKED
    np.testing.assert_allclose(told.hypotheses[0].T_cam_obj, thing.T_cam_obj, atol=1e-2)


def test_seconds_behind_a_board_do_not_overturn_what_was_settled(film):
    it = film()
    thing = it.world.put("a", margin=9.0)
    it.settle("a", frames=30)
    thing.margins = {"mug": 0.0}
    assert it.settle("a", frames=30).objects[0].state is TrackState.TRACKED
