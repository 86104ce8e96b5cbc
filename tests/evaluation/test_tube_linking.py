"""How detections of single frames become tubes, detail by detail."""

import numpy as np
import pytest
from act_protocol import plain_link

from mvbench_plugins.evaluation.action.linking import LinkRule, link_video


def link(boxes_by_frame: dict, count: int, score_by_frame: dict | None = None, **values) -> list:
    """Tubes of one class, from one or more boxes for each frame."""
    frames = [frame for frame, boxes in boxes_by_frame.items() for _ in boxes]
    boxes = [box for boxes in boxes_by_frame.values() for box in boxes]
    scores = [score for scores in (score_by_frame or {}).values() for score in scores] or [0.5] * len(boxes)
    arrays = np.array(frames), np.array(boxes, float), np.array(scores, np.float32)[:, None]
    return link_video(*arrays, count, LinkRule(**({'min_length': 1} | values)), 0.0)[0]


def test_gap_is_filled_linearly():
    (found,) = link({1: [(0, 0, 20, 20)], 2: [(0, 0, 20, 20)], 6: [(8, 4, 28, 24)]}, 10)
    assert found.boxes[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert found.boxes[3].tolist() == [4, 4, 2, 24, 22]


@pytest.mark.parametrize(('last', 'tubes'), [(6, 1), (7, 2)])
def test_tube_ends_after_five_frames_without_detection(last, tubes):
    """The fifth frame after the last box still continues the tube, the sixth starts another."""
    box = (0, 0, 20, 20)
    assert len(link({1: [box], last: [box]}, 12)) == tubes


@pytest.mark.parametrize(('length', 'tubes'), [(15, 1), (14, 0)])
def test_short_tubes_are_dropped(length, tubes):
    found = link({frame: [(0, 0, 20, 20)] for frame in range(3, 3 + length)}, 20, min_length=LinkRule().min_length)
    assert len(found) == tubes


@pytest.mark.parametrize(('score', 'tubes'), [(0.006, 1), (0.004, 0)])
def test_weak_tubes_are_dropped(score, tubes):
    boxes = {frame: [(0, 0, 20, 20)] for frame in (1, 2)}
    assert len(link(boxes, 2, {frame: [score] for frame in boxes})) == tubes


def test_tube_takes_the_highest_score_and_not_the_largest_overlap():
    first, near, far = (0, 0, 19, 19), (1, 0, 20, 19), (10, 0, 29, 19)
    found = link({1: [first], 2: [near, far]}, 2, {1: [0.6], 2: [0.5, 0.7]}, nms_thr=0.9)
    assert found[0].boxes[1, 1:].tolist() == list(far)
    assert found[0].score == pytest.approx(0.65)
    # the other detection starts a tube of its own
    assert found[1].boxes.tolist() == [[2, *near]]


def test_stronger_tube_chooses_first():
    left, right, middle = (0, 0, 19, 19), (16, 0, 35, 19), (8, 0, 27, 19)
    found = link({1: [left, right], 2: [middle]}, 2, {1: [0.3, 0.9], 2: [0.5]})
    assert [len(one.boxes) for one in found] == [2, 1]
    assert found[0].boxes[0, 1:].tolist() == list(right)


def test_suppression_and_top_k_within_a_frame():
    overlapping, apart = [(0, 0, 19, 19), (2, 0, 21, 19)], [(40 * index, 50, 40 * index + 9, 59) for index in range(3)]
    scores = {1: [0.8, 0.9, 0.7, 0.6, 0.5]}
    assert [one.score for one in link({1: overlapping + apart}, 1, scores)] == pytest.approx([0.9, 0.7, 0.6, 0.5])
    assert [one.score for one in link({1: overlapping + apart}, 1, scores, top_k=2)] == pytest.approx([0.9, 0.7])


def test_linking_counts_pixels():
    """Boxes of one row of pixels overlap, so one is suppressed and the next frame continues the tube."""
    found = link({1: [(0, 0, 9, 0), (2, 0, 11, 0)], 2: [(1, 0, 10, 0)]}, 2)
    assert [len(one.boxes) for one in found] == [2]


def test_many_detections_are_suppressed_in_parts_alike():
    """So many boxes a frame that the overlaps of one frame fill a part."""
    rng = np.random.default_rng(0)
    frames, corner = np.repeat([1, 2, 3], 600), rng.uniform(0, 500, (1800, 2))
    boxes, scores = np.concatenate([corner, corner + 30], 1), rng.random((1800, 1)).astype(np.float32)
    together = link_video(frames, boxes, scores, 3, LinkRule(min_length=1, max_gap=1), 0.0)[0]
    by_frame = {f: list(zip(scores[frames == f, 0].tolist(), map(tuple, boxes[frames == f]))) for f in (1, 2, 3)}
    expected = plain_link(by_frame, 3, LinkRule(min_length=1, max_gap=1))
    assert sorted(one.score for one in together) == pytest.approx(sorted(score for score, _ in expected))
