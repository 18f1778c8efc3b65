"""Frame by frame: what is searched, what is looked at, in which state it is then, and what ends a track."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pasr_perception.config import RefineConfig
from pasr_perception.geometry.se3 import make_T
from pasr_perception.track.tracker import Tracker
from pasr_perception.types import Detection, TrackState

TENTATIVE, TRACKED, COASTING, LOST = TrackState.TENTATIVE, TrackState.TRACKED, TrackState.COASTING, TrackState.LOST


def test_a_new_object_is_searched_then_followed(film):
    it = film()
    it.world.put("a", "mug", can=2.0)
    first = it.step(it.world.detection("a")).objects[0]
    assert (first.state, first.track_id, first.measured) == (TENTATIVE, 1, True)
    assert first.reason == "not settled: mug with probability 0.95"  # one search is not enough
    assert not first.confirmed
    second = it.step(it.world.detection("a")).objects[0]
    assert second.state is TRACKED
    assert second.confirmed
    assert second.hypotheses[0].mesh_id == "mug"
    np.testing.assert_allclose(second.hypotheses[0].T_cam_obj, it.world.things["a"].T_cam_obj, atol=1e-9)
    assert sum(h.score for h in second.hypotheses) + second.unknown == pytest.approx(1.0)
    it.settle("a", frames=20)
    assert len(it.world.searched) <= 3  # the last ones because its mesh rested on little
    assert len(it.world.looked) == 20  # the second frame searched once more
    assert it.world.checks >= 22  # a library cut short while mapped would end the process


def test_searches_of_tracks_refine_as_many_candidates_as_they_may(film):
    few, many = film(refined=3), film(refined=99)
    for it in (few, many):
        it.world.put("a")
        it.step(it.world.detection("a"))
    assert few.world.refined == [3]
    assert few.world.contours == [0]  # whatever single photos do
    assert many.world.refined == [RefineConfig().top_k]  # no more than single photos do


def test_what_goes_out_of_sight_coasts_is_lost_and_is_given_up(film):
    it = film(forget_s=5.0)
    it.world.put("a")
    it.settle("a")
    seen = [it.step(after_s=0.5).objects[0] for _ in range(4)]
    assert [o.state for o in seen] == [COASTING, COASTING, LOST, LOST]
    assert seen[0].reason == "not detected for 0.5 s"
    assert (seen[3].detection, seen[3].measured) == (None, False)
    assert seen[3].confirmed  # still known, if not where
    last = None
    for _ in range(4):
        last = it.step(after_s=1.0)
    assert last.objects == ()
    assert last.ended == ((1, "not detected for 6.0 s"),)


def test_a_tentative_object_out_of_sight_is_given_up_soon(film):
    it = film(tentative_s=1.0)
    it.world.put("a")
    it.step(it.world.detection("a"))
    assert it.step(after_s=0.9).objects
    assert it.step(after_s=0.9).ended == ((1, "not detected for 1.8 s before it was recognised"),)


def test_a_lost_object_that_comes_back_where_it_was_keeps_its_number(film):
    it = film()
    it.world.put("a")
    it.settle("a", frames=30)
    searches = len(it.world.searched)
    for _ in range(4):
        it.step(after_s=0.5)
    back = it.step(it.world.detection("a"), after_s=0.5).objects[0]
    assert (back.track_id, back.state) == (1, TRACKED)
    assert len(it.world.searched) == searches  # a look from where it was is enough


def test_a_lost_object_whose_look_speaks_against_it_is_searched_at_once(film):
    it = film()
    thing = it.world.put("a")
    it.settle("a")
    searches = len(it.world.searched)
    for _ in range(4):
        it.step(after_s=0.5)
    thing.margins = {"can": 8.0, "mug": -2.0}
    it.step(it.world.detection("a"), after_s=0.5)
    assert len(it.world.searched) == searches + 1


def test_a_box_that_cannot_be_cropped_from_the_prediction_leads_to_a_search(film):
    it = film()
    it.world.put("a")
    it.settle("a")
    searches = len(it.world.searched)
    it.world.uncroppable = True
    found = it.step(it.world.detection("a")).objects[0]
    assert len(it.world.searched) == searches + 1
    assert found.state is TRACKED
    assert found.measured


def test_what_no_mesh_explains_is_told_as_unknown_and_searched_ever_more_rarely(film):
    it = film(search_again_s=0.4, budget_s=5.0)
    it.world.put("a", "mug", margin=-1.0)
    times = []
    for i in range(60):
        count = len(it.world.searched)
        told = it.step(it.world.detection("a")).objects[0]
        times += [i] if len(it.world.searched) > count else []
    assert told.state is TENTATIVE
    assert told.hypotheses == ()
    assert not told.confirmed
    assert told.unknown > 0.9
    assert told.reason.startswith("no mesh of the library explains it")
    gaps = np.diff(times)
    assert (np.diff(gaps) >= 0).all()
    assert gaps[-1] >= 2 * gaps[1] > 0
    assert it.world.looked == []


def test_a_search_without_any_pose_is_tried_again_after_a_while(film):
    it = film(search_again_s=0.5, budget_s=5.0)
    thing = it.world.put("a")
    thing.margins = {}
    told = [it.step(it.world.detection("a")).objects[0] for _ in range(4)]
    assert it.world.searched == ["a"]
    assert told[-1].hypotheses == ()
    assert told[-1].unknown == 1.0
    it.step(it.world.detection("a"), after_s=0.3)
    assert it.world.searched == ["a", "a"]


def test_stamps_that_jump_back_begin_anew(film):
    it = film()
    it.world.put("a")
    it.settle("a")
    again = it.step(it.world.detection("a"), after_s=-0.55)  # a bag that is played in a loop
    assert again.notes == ("stamps jumped back by 0.550 s: all tracks begin anew",)
    assert again.ended == ((1, again.notes[0]),)
    assert [(o.track_id, o.state) for o in again.objects] == [(2, TENTATIVE)]
    assert it.settle("a").objects[0].state is TRACKED


def test_a_frame_with_the_same_stamp_changes_no_prediction(film):
    it = film()
    it.world.put("a")
    it.settle("a")
    same = it.step(it.world.detection("a"), after_s=0.0)
    assert same.notes == ()
    assert same.objects[0].state is TRACKED


def test_after_a_gap_objects_are_searched_again_even_if_they_were_at_rest(film):
    it = film(max_gap_s=2.0)
    it.world.put("a")
    it.settle("a", frames=20)
    (track,) = it.tracker._tracks
    track.patience_s = 64.0  # as after many doubts; it is no reason to wait now
    looks, searches = len(it.world.looked), len(it.world.searched)
    after = it.step(it.world.detection("a"), after_s=3.0)
    assert after.notes == ("no frame for 3.0 s: objects are searched again",)
    assert len(it.world.searched) == searches + 1
    assert len(it.world.looked) == looks
    assert [(o.track_id, o.state) for o in after.objects] == [(1, TRACKED)]
    lost = it.step(after_s=3.0).objects[0]
    assert (lost.state, lost.reason) == (LOST, "not detected for 3.0 s")


def test_a_detectors_ids_hold_objects_together_that_changed_places(film):
    it = film()
    left, right = it.world.put("a", "mug", x=-0.3), it.world.put("b", "can", x=0.3)
    for _ in range(8):
        it.step(it.world.detection("a", "one"), it.world.detection("b", "two"))
    left.T_cam_obj, right.T_cam_obj = right.T_cam_obj, left.T_cam_obj
    after = it.step(it.world.detection("a", "one"), it.world.detection("b", "two"))
    assert [o.track_id for o in after.objects] == [1, 2]
    assert [o.detection.class_id for o in after.objects] == ["a", "b"]
    assert [o.hypotheses[0].mesh_id for o in after.objects] == ["mug", "can"]


def test_without_ids_overlap_decides(film):
    it = film()
    it.world.put("a", "mug", x=-0.3)
    it.world.put("b", "can", x=0.3)
    it.settle("a", "b", frames=12)
    after = it.step(it.world.detection("b"), it.world.detection("a"))  # in another order
    assert [(o.track_id, o.detection.class_id) for o in after.objects] == [(1, "a"), (2, "b")]


def test_reset_forgets_all_but_never_uses_a_number_again(film):
    it = film()
    it.world.put("a")
    it.settle("a")
    it.tracker.reset()
    again = it.step(it.world.detection("a"), after_s=-1.0)
    assert again.notes == ()
    assert [o.track_id for o in again.objects] == [2]


def test_unusable_boxes_are_rejected_with_a_reason_and_make_no_track(film):
    it = film()
    it.world.put("a")
    outside = Detection(np.array([400.0, 10, 450, 60]))
    result = it.step(outside, it.world.detection("a"))
    assert [d for d, _ in result.rejected] == [outside]
    assert "outside the 320 x 240 image" in result.rejected[0][1]
    assert len(result.objects) == 1


@pytest.mark.parametrize("T", [np.eye(3), np.diag([1.0, 1, 2, 1]), np.full((4, 4), np.nan)])
def test_a_camera_that_is_nowhere_is_refused_and_nothing_changes(film, T):
    it = film()
    it.world.put("a")
    it.settle("a")
    with pytest.raises(ValueError, match="T_fixed_cam: expected a rigid transform"):
        it.step(it.world.detection("a"), T=T)
    assert it.step(it.world.detection("a")).objects[0].track_id == 1


def test_an_object_at_rest_is_at_rest_though_the_camera_moves(film):
    it = film()
    it.world.put("a")
    T_fixed_obj = it.world.things["a"].T_cam_obj.copy()
    for i in range(25):
        T_fixed_cam = make_T(Rotation.from_euler("y", 0.5 * i, degrees=True).as_matrix(), np.array([0.01 * i, 0, 0]))
        it.world.things["a"].T_cam_obj = np.linalg.inv(T_fixed_cam) @ T_fixed_obj
        told = it.step(it.world.detection("a"), T=T_fixed_cam).objects[0]
    np.testing.assert_array_equal(told.velocity, 0)
    np.testing.assert_allclose(told.hypotheses[0].T_cam_obj, it.world.things["a"].T_cam_obj, atol=1e-6)
    unknown = it.step(it.world.detection("a"))
    assert unknown.notes == ("the camera's place became unknown: all tracks begin anew",)
    assert [o.track_id for o in unknown.objects] == [2]


def test_the_budget_holds_and_who_waited_goes_first(film):
    it = film(budget_s=0.5)
    for i, name in enumerate("abc"):
        it.world.put(name, x=0.5 * (i - 1))
    first = it.step(*map(it.world.detection, "abc"))
    assert it.world.searched == ["a"]  # a second search of 0.4 s would not fit
    assert [d.class_id for d in first.deferred] == ["b", "c"]
    assert first.timings.search_count == 1
    assert first.objects[1].reason == "waits for its first search"
    for _ in range(12):
        result = it.step(*map(it.world.detection, "abc"))
        assert result.timings.total <= 0.5 + 1e-9
    assert it.world.searched[:3] == ["a", "b", "c"]
    assert [o.state for o in result.objects] == [TRACKED] * 3


def test_looks_that_do_not_fit_into_the_budget_take_turns(film):
    it = film(budget_s=0.13)  # three looks of 0.04 s
    names = "abcde"
    for i, name in enumerate(names):
        it.world.put(name, x=0.3 * (i - 2))
    it.settle(*names, frames=60)
    it.world.looked.clear()
    waiting = []
    for _ in range(5):
        result = it.step(*map(it.world.detection, names))
        waiting.append({d.class_id for d in result.deferred})
        assert len(waiting[-1]) == 2
        coasting = {o.detection.class_id: o.reason for o in result.objects if o.state is COASTING}
        assert coasting == dict.fromkeys(waiting[-1], "the time budget did not reach it")
    counts = [sum(name == seen for seen, _ in it.world.looked) for name in names]
    assert min(counts) >= 2
    assert all(not a & b for a, b in itertools.pairwise(waiting))


def test_settings_of_the_pipeline_hold_where_none_are_given(film):
    it = film()
    it.world.config = replace(it.world.config, track=replace(it.world.config.track, coast_s=9.0))
    assert Tracker(it.world).config.coast_s == 9.0


def test_what_is_where_it_is_expected_is_only_glanced_at(film):
    it = film(look_again_s=1.0)
    it.world.put("a")
    it.settle("a", frames=20)
    looks = len(it.world.looked)
    results = [it.step(it.world.detection("a")) for _ in range(20)]
    assert len(it.world.looked) - looks == 1  # after 1 s, after 1.5 s and so on
    assert sum(r.timings.glance_count for r in results) == 19
    assert all(r.objects[0].state is TRACKED and r.objects[0].measured for r in results)


def test_a_glance_is_not_enough_where_box_or_colours_are_not_as_expected(film):
    it = film(look_again_s=10.0)
    it.world.put("a")
    it.settle("a", frames=20)
    looks = len(it.world.looked)
    box = it.world.detection("a")
    loose = replace(box, box=box.box + np.array([0, 0, 60.0, 60.0]))
    it.step(loose)
    assert len(it.world.looked) == looks + 1
    it.step(box)
    assert len(it.world.looked) == looks + 1
    (track,) = it.tracker._tracks
    track.colours = np.roll(track.colours, 3)
    it.step(box)
    assert len(it.world.looked) == looks + 2


def test_what_stands_in_front_of_an_object_at_rest_is_looked_at_once(film):
    it = film(look_again_s=10.0)
    it.world.put("a")
    it.settle("a", frames=20)
    looks = len(it.world.looked)
    whole = it.world.detection("a")
    half = replace(whole, box=whole.box - np.array([0, 0, 0.6 * (whole.box[2] - whole.box[0]), 0]))
    other = replace(whole, box=whole.box + np.array([0.6 * (whole.box[2] - whole.box[0]), 0, 0, 0]))
    for box, looked in ((half, 1), (half, 1), (whole, 1), (half, 1), (other, 2), (half, 3)):
        it.step(box)
        assert len(it.world.looked) == looks + looked


def test_after_a_look_that_found_it_elsewhere_the_next_frame_is_looked_at_too(film):
    it = film(look_again_s=10.0)
    it.world.put("a")
    it.settle("a", frames=20)
    it.world.things["a"] = replace(it.world.things["a"], T_cam_obj=make_T(np.eye(3), np.array([0.12, 0, 1.5])))
    (track,) = it.tracker._tracks
    looks = len(it.world.looked)
    for more in (1, 2):
        it.step(it.world.detection("a"))
        assert len(it.world.looked) == looks + more
        assert track.odd is None  # the box was right, the pose was not
