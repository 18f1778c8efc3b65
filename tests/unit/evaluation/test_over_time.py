"""Identity, flips, jitter and reaction over time, on tracks whose faults are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pasr_perception.data.records import Truth
from pasr_perception.evaluation.metrics import Surface
from pasr_perception.evaluation.over_time import Answer, Moment, evaluate
from pasr_perception.evaluation.truth import MeshFacts
from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.symmetry import Fold, Symmetry

CUBE = Surface.of(np.random.default_rng(0).uniform(-0.1, 0.1, (200, 3)))
HALF = Symmetry(folds=(Fold((0.0, 1.0, 0.0), 2),))
FACTS = {
    "mug": MeshFacts("mug", "cup", "known", 0, CUBE, Symmetry()),
    "box": MeshFacts("box", "box", "known", 1, CUBE, HALF),
}


def truth(name: str, mesh: str, x: float, visible: float = 1.0) -> Truth:
    T = make_T(np.eye(3), np.array([x, 0, 1.0]))
    return Truth(name, mesh, T, np.array([0.0, 0, 10, 10]), visible, np.zeros(3), np.full(3, 0.2))


def answer(track: str, mesh: str, x: float, turn: float = 0.0) -> Answer:
    T = make_T(Rotation.from_euler("y", turn, degrees=True).as_matrix(), np.array([x, 0, 1.0]))
    return Answer(track, mesh, T, T[:3, 3])


def film(*frames: tuple[list[Truth], list[Answer]]) -> list[Moment]:
    return [Moment(i * 10**8, tuple(t), tuple(a)) for i, (t, a) in enumerate(frames)]


def test_a_perfect_track():
    scene = [truth("a", "mug", 0.0)]
    numbers, courses = evaluate(film(*[(scene, [answer("1", "mug", 0.0)])] * 5), FACTS)
    assert (numbers.mota, numbers.idf1, numbers.mesh_correct_share) == (1.0, 1.0, 1.0)
    assert (numbers.identity_switches, numbers.symmetric_flips, numbers.unknown_confirmed) == (0, 0, 0)
    assert numbers.jitter_deg == pytest.approx(0, abs=1e-6)
    assert (numbers.first_correct_s, numbers.never_correct) == (0.0, 0)
    assert len(courses["a"]) == 5


def test_switches_misses_and_inventions_cost():
    scene = [truth("a", "mug", 0.0)]
    first, second = answer("1", "mug", 0.0), answer("2", "mug", 0.0)
    numbers, _ = evaluate(
        film((scene, [first]), (scene, [second]), (scene, []), (scene, [second, answer("3", "mug", 0.9)])), FACTS
    )
    assert numbers.identity_switches == 1
    assert numbers.invented_confirmed == 1
    assert numbers.mota == pytest.approx(1 - 3 / 4)
    assert numbers.idf1 == pytest.approx(2 * 2 / (4 + 4))


def test_an_object_keeps_its_track_while_that_is_near():
    scene = [truth("a", "mug", 0.0)]
    numbers, courses = evaluate(
        film((scene, [answer("1", "mug", 0.0)]), (scene, [answer("1", "mug", 0.05), answer("2", "mug", 0.0)])), FACTS
    )
    assert numbers.identity_switches == 0
    assert courses["a"][1].track == "1"


def test_a_flip_of_a_symmetric_object_counts_though_its_error_is_nothing():
    scene = [truth("a", "box", 0.0)]
    numbers, _ = evaluate(film(*[(scene, [answer("1", "box", 0.0, turn)]) for turn in (0, 180, 180, 0)]), FACTS)
    assert numbers.symmetric_flips == 2
    assert numbers.rotation_error_deg == pytest.approx(0, abs=1e-4)


def test_jitter_is_the_change_of_the_error():
    scene = [truth("a", "mug", 0.0)]
    numbers, _ = evaluate(
        film(*[(scene, [answer("1", "mug", 0.01 * (i % 2), 2.0 * (i % 2))]) for i in range(6)]), FACTS
    )
    assert numbers.jitter_deg == pytest.approx(2.0, abs=1e-6)
    assert numbers.jitter_m == pytest.approx(0.01, abs=1e-6)


def test_unknown_objects_and_wrong_meshes():
    scene = [truth("a", "mug", 0.0), truth("x", "elephant", 0.8)]
    numbers, _ = evaluate(film(*[(scene, [answer("1", "box", 0.0), answer("2", "mug", 0.8)])] * 4), FACTS)
    assert numbers.unknown_confirmed == 4
    assert numbers.mesh_correct_share == 0.0
    assert (numbers.first_correct_s, numbers.never_correct) == (None, 1)  # the elephant is no mesh of the library


def test_reaction_to_an_occlusion():
    seen, hidden = [truth("a", "mug", 0.0)], [truth("a", "mug", 0.0, 0.0)]
    right = [answer("1", "mug", 0.0)]
    frames = [(seen, []), (seen, right)] + [(hidden, [])] * 12 + [(seen, []), (seen, []), (seen, right)]
    numbers, _ = evaluate(film(*frames), FACTS)
    assert numbers.first_correct_s == pytest.approx(0.1)
    assert numbers.occlusions == 1
    assert numbers.reacquire_s == pytest.approx(0.2)
