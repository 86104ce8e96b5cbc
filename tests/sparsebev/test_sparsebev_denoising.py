"""Query denoising: the layout of the disturbed queries, what is disturbed, and who sees whom."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mvbench_plugins.sparsebev.boxes import encode_query_boxes
from mvbench_plugins.sparsebev.denoising import QueryDenoising

PC_RANGE = torch.tensor([-50.0, -50.0, -5.0, 50.0, 50.0, 3.0])
NUM_CLASSES = 4
BOXES = [
    torch.tensor([[10.0, 20, -1, 4, 2, 1, 0.5, 1, -1], [-30, 5, 0, 1, 1, 2, -2, 0, 0], [49.9, 0, 0, 9, 2, 2, 0, 3, 0]]),
    torch.tensor([[0.0, 0, -4, 2, 2, 2, 3, 0, 1]]),
]
LABELS = [torch.tensor([0, 1, 2]), torch.tensor([3])]


def _make(denoising: QueryDenoising, boxes=BOXES, labels=LABELS, num_query=5):
    torch.manual_seed(0)
    label_enc = nn.Embedding(NUM_CLASSES + 1, 7)
    return label_enc, denoising(boxes, labels, label_enc, lambda b: encode_query_boxes(b, PC_RANGE), num_query)


def test_layout_of_groups_and_samples():
    """Group i of a sample starts at slot i * (most boxes); what is left of a group are zeros."""
    label_enc, found = _make(QueryDenoising(2, center_noise_scale=0.0, label_noise_ratio=0.0))
    assert found.boxes.shape == (2, 6, 10) and found.feats.shape == (2, 6, 8)
    assert found.sample.tolist() == [0, 0, 0, 1] * 2 and found.slot.tolist() == [0, 1, 2, 0, 3, 4, 5, 3]
    assert torch.equal(found.targets, torch.cat(BOXES * 2)) and torch.equal(found.labels, torch.cat(LABELS * 2))
    exact = encode_query_boxes(torch.cat(BOXES), PC_RANGE)
    for group in (0, 3):
        torch.testing.assert_close(found.boxes[0, group : group + 3], exact[:3])
        torch.testing.assert_close(found.boxes[1, group], exact[3])
        torch.testing.assert_close(found.feats[0, group : group + 3, :-1], label_enc.weight[:3])
        torch.testing.assert_close(found.feats[1, group, :-1], label_enc.weight[3])
    assert (found.feats[0, :, -1] == 1).all() and found.feats[1, :, -1].tolist() == [1, 0, 0, 1, 0, 0]
    empty = [1, 2, 4, 5]
    assert not found.boxes[1, empty].any() and not found.feats[1, empty].any()


def test_who_sees_whom():
    """Rows ask, columns are seen: two groups of three slots, then five queries of their own."""
    _, found = _make(QueryDenoising(2))
    want = torch.zeros(11, 11, dtype=torch.bool)
    want[:3, 3:6] = want[3:6, :3] = True  # groups do not see each other
    want[6:, :6] = True  # nor do queries see annotations
    assert torch.equal(found.blocked, want)


def test_centres_move_along_the_axes_and_stay_in_range():
    """At most by half of half the size with scale 0.5, length along x whatever the heading; nothing else moves."""
    denoising = QueryDenoising(500, center_noise_scale=0.5, label_noise_ratio=0.0)
    _, found = _make(denoising)
    noisy, exact = found.boxes[found.sample, found.slot], encode_query_boxes(found.targets, PC_RANGE)
    assert torch.equal(noisy[:, 3:], exact[:, 3:])
    moved = (noisy[:, :3] - exact[:, :3]) * torch.tensor([100.0, 100, 8]) / found.targets[:, 3:6]
    inside = found.targets[:, 0] < 40
    assert moved[inside].abs().max() <= 0.2501 and moved[inside].abs().amax(0).min() > 0.24
    assert moved[inside].mean(0).abs().max() < 0.02, 'to both sides'
    assert noisy[~inside, 0].max() == 1, 'clamped to the border of the range'
    assert noisy[:, :3].min() >= 0


def test_half_of_the_labels_are_drawn_anew():
    denoising = QueryDenoising(1000, label_noise_ratio=0.5)
    label_enc, found = _make(denoising)
    kept = (found.feats[found.sample, found.slot, :-1] == label_enc.weight[found.labels]).all(1)
    # A quarter of the drawn labels are right by chance.
    assert kept.float().mean().item() == pytest.approx(0.5 + 0.5 / NUM_CLASSES, abs=0.03)
    background = label_enc.weight[NUM_CLASSES]
    assert not (found.feats[..., :-1] == background).all(-1).any()


@pytest.mark.parametrize('counts', [(0, 1), (0, 0)])
def test_samples_without_boxes(counts):
    boxes, labels = [BOXES[1][:n] for n in counts], [LABELS[1][:n] for n in counts]
    _, found = _make(QueryDenoising(3), boxes, labels)
    slots = 3 * max(counts)
    assert found.boxes.shape == (2, slots, 10) and found.blocked.shape == (slots + 5, slots + 5)
    assert found.sample.tolist() == [1] * slots and not found.boxes[0].any()


def test_label_embedding_learns():
    label_enc, found = _make(QueryDenoising(2, label_noise_ratio=0.0))
    found.feats.sum().backward()
    assert (label_enc.weight.grad[:NUM_CLASSES] == 2).all() and not label_enc.weight.grad[NUM_CLASSES].any()
