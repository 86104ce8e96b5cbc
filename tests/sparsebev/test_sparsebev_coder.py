"""Layouts of boxes, and the decoding of predictions."""

from __future__ import annotations

import math

import pytest
import torch

from mvbench_plugins.sparsebev import SparseBEVBoxCoder
from mvbench_plugins.sparsebev.boxes import decode_target_boxes, encode_target_boxes, query_to_target_boxes

PC_RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
POST_RANGE = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]
BOX = [25.6, -51.2, -1.0, math.e, 1.0, math.e**2, math.pi / 6, 3.0, -4.0]


def _coder(**options) -> SparseBEVBoxCoder:
    return SparseBEVBoxCoder(PC_RANGE, POST_RANGE, **options)


def test_query_boxes_are_relative_to_the_range():
    found = _coder().encode(torch.tensor([BOX]))[0].tolist()
    assert found == pytest.approx([0.75, 0, 0.5, 1, 0, 2, 0.5, 3**0.5 / 2, 3, -4], abs=1e-6)


def test_target_boxes_have_the_height_after_the_sizes():
    targets = encode_target_boxes(torch.tensor([BOX]))
    assert targets[0].tolist() == pytest.approx([25.6, -51.2, 1, 0, -1, 2, 0.5, 3**0.5 / 2, 3, -4], abs=1e-5)
    queries = _coder().encode(torch.tensor([BOX]))
    torch.testing.assert_close(query_to_target_boxes(queries, torch.tensor(PC_RANGE)), targets)


def test_decoding_is_the_inverse_of_encoding():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(50, 9, generator=generator) * 2 - 1
    boxes[:, 3:6] = boxes[:, 3:6].exp()
    boxes[:, 6] *= math.pi
    torch.testing.assert_close(decode_target_boxes(encode_target_boxes(boxes)), boxes, atol=1e-6, rtol=1e-5)
    scaled = encode_target_boxes(boxes)
    scaled[:, 6:8] *= 0.3  # the network's sine and cosine need not be of one circle
    torch.testing.assert_close(decode_target_boxes(scaled)[:, 6], boxes[:, 6])


def test_best_pairs_of_query_and_class():
    """A query may count twice; the best come first; the number is limited, and scores must be above the threshold."""
    scores = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.8, 0.04], [0.05, 0.05, 0.7]])
    targets = encode_target_boxes(torch.tensor([BOX, BOX, BOX]))
    targets[:, 0] = torch.tensor([1.0, 2, 3])
    boxes, found, labels = _coder(max_num=5).decode(scores.logit(), targets)
    torch.testing.assert_close(found, torch.tensor([0.9, 0.8, 0.7, 0.3, 0.2]))
    assert labels.tolist() == [0, 1, 2, 2, 0] and boxes[:, 0].tolist() == [1, 2, 3, 1, 2]
    _, found, _ = _coder(score_threshold=0.25).decode(scores.logit(), targets)
    assert len(found) == 4
    _, found, _ = _coder(score_threshold=0.0).decode(scores.logit(), targets)
    assert len(found) == 9, 'there are no more pairs than these'


def test_centres_must_lie_in_the_range():
    targets = encode_target_boxes(torch.tensor([BOX] * 5))
    targets[:, 0] = torch.tensor([61.25, 61.2, 0, 0, 0])
    targets[:, 1] = torch.tensor([0, 0, -61.25, 0, 0])
    targets[:, 4] = torch.tensor([0, 0, 0, -10.5, 10.0])
    logits = torch.tensor([[3.0], [2.0], [1.0], [0.0], [-1.0]])
    boxes, scores, _ = _coder().decode(logits, targets)
    torch.testing.assert_close(scores.logit(), torch.tensor([2.0, -1.0]))  # borders belong to it
    assert boxes[:, 0].tolist() == pytest.approx([61.2, 0])
