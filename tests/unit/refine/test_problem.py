"""What goes into refinement: boxes in turned crops, poses in the image."""

from __future__ import annotations

import torch

from pasr_perception.coarse import quarter_turns
from pasr_perception.refine import Boxes, Contest, Pose


def test_boxes_turn_with_their_crops() -> None:
    edges = torch.tensor([[0.1, 0.2, 0.5, 0.9]])
    clipped = torch.tensor([[True, False, False, False]])
    turns = torch.arange(4)
    found = Boxes(edges.repeat(4, 1), clipped.repeat(4, 1)).turned(turns)
    # one quarter anticlockwise takes the right edge to the top and the left edge to the bottom
    expected = [[0.1, 0.2, 0.5, 0.9], [0.2, 0.5, 0.9, 0.9], [0.5, 0.1, 0.9, 0.8], [0.1, 0.1, 0.8, 0.5]]
    torch.testing.assert_close(found.edges, torch.tensor(expected))
    assert found.clipped.nonzero().tolist() == [[0, 0], [1, 3], [2, 2], [3, 1]]


def test_boxes_turn_as_images_and_vectors_do() -> None:
    image = torch.zeros(10, 10)
    image[2:9, 1:5] = 1
    box = torch.tensor([[0.1, 0.2, 0.5, 0.9]])
    for turn in range(4):
        v, u = torch.rot90(image, turn).nonzero().T
        seen = torch.tensor([u.min(), v.min(), u.max() + 1, v.max() + 1]) / 10
        found = Boxes(box, torch.zeros(1, 4, dtype=torch.bool)).turned(torch.tensor([turn])).edges[0]
        torch.testing.assert_close(found, seen)
        back = quarter_turns(torch.tensor([turn]))[0, :2, :2] @ ((found[:2] + found[2:]) / 2 - 0.5)
        torch.testing.assert_close(back, (box[0, :2] + box[0, 2:]) / 2 - 0.5)


def test_a_pose_scales_about_the_middle_and_then_shifts() -> None:
    pose = Pose(torch.eye(3)[None], torch.tensor([[0.1, -0.2]]), torch.tensor([2.0]).log())
    found = pose.move(torch.tensor([[[5.0, 5.0], [6.0, 4.0]]]), 10)
    torch.testing.assert_close(found, torch.tensor([[[6.0, 3.0], [8.0, 1.0]]]))


def test_finalists_are_those_of_each_detection_that_stand_out_most() -> None:
    contest = Contest(
        (3, 0, 2), offset=torch.tensor([0.0, 0.5, 0.0, 0.0, 0.0]), spread=torch.tensor([1.0, 1, 0.1, 1, 1])
    )
    value = torch.tensor([0.3, 0.7, 0.1, 0.2, 0.4])  # margins 0.3, 0.2, 1.0; 0.2, 0.4
    assert contest.finalists(value, 1).tolist() == [2, 4]
    assert contest.finalists(value, 2).tolist() == [0, 2, 3, 4]
    assert contest.finalists(value, 9).tolist() == [0, 1, 2, 3, 4]
