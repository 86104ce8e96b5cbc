"""Matching and losses against their formulas."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from sparsebev_batches import losses_of, make_batch
from torch import Tensor

from mvbench_plugins.sparsebev import SparseBEVAssigner
from mvbench_plugins.sparsebev.boxes import encode_target_boxes
from mvbench_plugins.sparsebev.denoising import DenoisingQueries
from mvbench_plugins.sparsebev.losses import SparseBEVCriterion

CODE_WEIGHTS = torch.tensor([2.0, 2, 1, 1, 1, 1, 1, 1, 1, 1])
CLASSES = 3


def _criterion() -> SparseBEVCriterion:
    focal = dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0)
    return SparseBEVCriterion(focal, dict(type='mmdet.L1Loss', loss_weight=0.25))


def _boxes(*shape: int, seed: int = 0) -> Tensor:
    boxes = torch.rand(*shape, 9, generator=torch.Generator().manual_seed(seed)) * 4 - 2
    boxes[..., 3:6] = boxes[..., 3:6].exp()
    return boxes


def _predictions(stages: int, batch: int, queries: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(stages, batch, queries, CLASSES, generator=generator)
    return logits, encode_target_boxes(_boxes(stages, batch, queries, seed=8))


def _focal(logit: float, positive: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def _cost(logits: Tensor, box: Tensor, label: int, target: Tensor) -> float:
    logit = logits[label].item()
    distance = sum(w * abs(a - b) for w, a, b in zip(CODE_WEIGHTS.tolist(), box.tolist(), target.tolist()))
    return 2 * (_focal(logit, True) - _focal(logit, False)) + 0.25 * distance


def test_cost_and_cheapest_assignment():
    """All ways to give five queries to three boxes are tried."""
    logits, boxes = (x[0, 0] for x in _predictions(1, 1, 5))
    targets, labels = encode_target_boxes(_boxes(3)), torch.tensor([2, 0, 2])
    assigner = SparseBEVAssigner()
    cost = assigner.cost(logits, boxes, labels, targets, CODE_WEIGHTS)
    want = [[_cost(logits[q], boxes[q], int(labels[i]), targets[i]) for i in range(3)] for q in range(5)]
    torch.testing.assert_close(cost, torch.tensor(want))
    (query,), (box,) = assigner.assign(logits[None], boxes[None], labels, targets, CODE_WEIGHTS)
    best = min(itertools.permutations(range(5), 3), key=lambda way: sum(want[q][i] for i, q in enumerate(way)))
    assert sorted(zip(box.tolist(), query.tolist())) == list(enumerate(best))


def test_costs_that_are_not_finite():
    logits, boxes = (x[0, 0] for x in _predictions(1, 1, 3))
    targets = encode_target_boxes(_boxes(2))
    boxes[0, 0] = float('nan')
    targets[1, 2] = float('-inf')  # a box without length
    cost = SparseBEVAssigner().cost(logits, boxes, torch.tensor([0, 1]), targets, CODE_WEIGHTS)
    assert cost[0].tolist() == [100, 100] and cost[:, 1].tolist() == [100] * 3 and cost[1, 0] < 50


def test_more_boxes_than_queries():
    logits, boxes = _predictions(2, 1, 2)
    targets, labels = encode_target_boxes(_boxes(5)), torch.tensor([0, 1, 2, 0, 1])
    query, box = SparseBEVAssigner().assign(logits[:, 0], boxes[:, 0], labels, targets, CODE_WEIGHTS)
    assert query.tolist() == [[0, 1]] * 2 and box.shape == (2, 2)
    losses = _criterion()(logits, boxes, [_boxes(5)], [labels], None, SparseBEVAssigner(), CODE_WEIGHTS)
    assert all(loss.isfinite() for loss in losses.values())


def test_losses_of_matched_queries():
    """Every stage is matched by itself; both losses are divided by the number of boxes of the whole batch."""
    logits, boxes = _predictions(2, 2, 4)
    gt_boxes, gt_labels = [_boxes(2), _boxes(1, seed=1)], [torch.tensor([1, 0]), torch.tensor([2])]
    assigner = SparseBEVAssigner()
    losses = _criterion()(logits, boxes, gt_boxes, gt_labels, None, assigner, CODE_WEIGHTS)
    assert list(losses) == ['d0.loss_cls', 'd0.loss_bbox', 'loss_cls', 'loss_bbox']
    for stage, prefix in enumerate(('d0.', '')):
        cls_loss = box_loss = 0.0
        for b in range(2):
            targets = encode_target_boxes(gt_boxes[b])
            (query,), (index,) = assigner.assign(
                logits[stage, b][None], boxes[stage, b][None], gt_labels[b], targets, CODE_WEIGHTS
            )
            classes = {q: int(gt_labels[b][i]) for q, i in zip(query.tolist(), index.tolist())}
            for q, c in itertools.product(range(4), range(CLASSES)):
                cls_loss += 2 * _focal(logits[stage, b, q, c].item(), classes.get(q) == c) / 3
            apart = (boxes[stage, b, query] - targets[index]).abs() * CODE_WEIGHTS
            box_loss += 0.25 * apart.sum().item() / 3
        assert losses[f'{prefix}loss_cls'].item() == pytest.approx(cls_loss, rel=1e-4)
        assert losses[f'{prefix}loss_bbox'].item() == pytest.approx(box_loss, rel=1e-4)


def test_losses_of_disturbed_queries():
    """They need no matching, empty slots learn nothing, and the number of disturbed boxes divides."""
    logits, boxes = _predictions(1, 2, 6)  # four disturbed ones, two of their own
    denoising = DenoisingQueries(
        boxes=boxes[0, :, :4],
        feats=boxes[0, :, :4],
        blocked=torch.zeros(6, 6, dtype=torch.bool),
        sample=torch.tensor([0, 0, 1, 0, 0]),
        slot=torch.tensor([0, 1, 0, 2, 3]),
        targets=_boxes(5, seed=3),
        labels=torch.tensor([0, 1, 2, 0, 1]),
    )
    args = ([_boxes(2), _boxes(1)], [torch.tensor([0, 1]), torch.tensor([2])])
    losses = _criterion()(logits, boxes, *args, denoising, SparseBEVAssigner(), CODE_WEIGHTS)
    cls_loss = box_loss = 0.0
    for m, (b, s) in enumerate(zip(denoising.sample, denoising.slot)):
        for c in range(CLASSES):
            cls_loss += 2 * _focal(logits[0, b, s, c].item(), int(denoising.labels[m]) == c) / 5
        target = encode_target_boxes(denoising.targets[m : m + 1])[0]
        box_loss += 0.25 * ((boxes[0, b, s] - target).abs() * CODE_WEIGHTS).sum().item() / 5
    assert losses['loss_cls_dn'].item() == pytest.approx(cls_loss, rel=1e-4)
    assert losses['loss_bbox_dn'].item() == pytest.approx(box_loss, rel=1e-4)
    alone = _criterion()(logits[:, :, 4:], boxes[:, :, 4:], *args, None, SparseBEVAssigner(), CODE_WEIGHTS)
    for name in ('loss_cls', 'loss_bbox'):
        torch.testing.assert_close(losses[name], alone[name])


def test_boxes_without_extent_teach_no_box():
    logits, boxes = _predictions(1, 1, 3)
    gt, labels = _boxes(2), torch.tensor([0, 1])
    gt[1, 3] = 0
    assigner, targets = SparseBEVAssigner(), encode_target_boxes(gt)
    losses = _criterion()(logits, boxes, [gt], [labels], None, assigner, CODE_WEIGHTS)
    (query,), (index,) = assigner.assign(logits[:, 0], boxes[:, 0], labels, targets, CODE_WEIGHTS)
    apart = (boxes[0, 0, query[index == 0]] - targets[0]).abs() * CODE_WEIGHTS
    assert losses['loss_bbox'].item() == pytest.approx(0.25 * apart.sum().item() / 2, rel=1e-4)


@pytest.mark.parametrize('counts', [(0, 2), (0, 0)])
def test_samples_without_boxes(build, counts):
    """They teach their queries to be background; losses have the same names, so that all processes agree."""
    model = build().train()
    losses = losses_of(model, make_batch(counts))
    assert set(losses) == set(losses_of(model, make_batch([1, 1])))
    sum(losses.values()).backward()
    for name, param in model.named_parameters():
        if param.requires_grad:
            assert param.grad is not None and param.grad.isfinite().all(), name
    assert losses['loss_cls'] > 0 and model.pts_bbox_head.decoder.layer.cls_branch[-1].weight.grad.any()
    if not any(counts):
        assert all(losses[name] == 0 for name in losses if 'bbox' in name or 'dn' in name)


def test_without_denoising(build, batch):
    losses = losses_of(build(head=dict(denoising=None)).train(), batch)
    assert sorted(losses) == sorted(f'{p}loss_{kind}' for p in ('d0.', 'd1.', '') for kind in ('cls', 'bbox'))


def test_normalisers_are_means_over_processes(monkeypatch):
    """Another process has 9 boxes where this one has 1: both divide by 5."""
    logits, boxes = _predictions(1, 1, 3)
    args = (logits, boxes, [_boxes(1)], [torch.tensor([1])], None, SparseBEVAssigner(), CODE_WEIGHTS)
    alone = _criterion()(*args)
    monkeypatch.setattr(
        'mvbench_plugins.sparsebev.losses.reduce_mean', lambda counts: (counts + torch.tensor([9.0, 0])) / 2
    )
    shared = _criterion()(*args)
    for name in alone:
        assert shared[name].item() == pytest.approx(alone[name].item() / 5, rel=1e-5)
