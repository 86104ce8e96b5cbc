"""Losses from their formulas, and what a training step writes into the memory and reads from it."""

from __future__ import annotations

import copy
import math
from unittest.mock import patch

import pytest
import torch
from cycleacr_batches import make_batch
from torch import Tensor, nn

from mvbench_plugins.cycleacr import GroupedFocalLoss, PersonSumBCELoss
from mvbench_plugins.cycleacr.boxes import jitter_boxes

GROUPS = [('pose', 3, 1.2), ('object', 4, 4.0), ('person', 2, 2.0)]


def _step(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    return model(**model.data_preprocessor(copy.deepcopy(batch), training=True), mode='loss')


def _focal(probability: float, target: bool) -> float:
    right = probability if target else 1 - probability
    return -((1 - right) ** 2) * math.log(right)


def _random(num: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, 9, generator=generator), (torch.rand(num, 9, generator=generator) < 0.4).float()


def test_grouped_focal_loss_by_hand():
    """Section 3.2: one pose by softmax, the others by sigmoids, mean over the classes, mean over the people."""
    logits, labels = _random(6)
    labels[2, :3] = 0  # no pose: counts as the first one
    labels[3, :3] = torch.tensor([0.0, 1.0, 1.0])  # two: the first one
    pose = thing = person = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total = sum(math.exp(value) for value in row[:3])
        target = next((i for i in range(3) if label[i]), 0)
        pose += _focal(math.exp(row[target]) / total, True)
        for group, size in ((range(3, 7), 4), (range(7, 9), 2)):
            value = sum(_focal(1 / (1 + math.exp(-row[i])), bool(label[i])) for i in group) / size
            thing, person = (thing + value, person) if size == 4 else (thing, person + value)
    found = GroupedFocalLoss(GROUPS)(logits, labels)
    assert found['loss_pose'].item() == pytest.approx(1.2 * pose / 6, rel=1e-5)
    assert found['loss_object'].item() == pytest.approx(4 * thing / 6, rel=1e-5)
    assert found['loss_person'].item() == pytest.approx(2 * person / 6, rel=1e-5)
    with patch('mvbench_plugins.cycleacr.losses.reduce_mean', lambda people: people * 2):
        elsewhere = GroupedFocalLoss(GROUPS)(logits, labels)
    assert elsewhere['loss_pose'].item() == pytest.approx(0.6 * pose / 6, rel=1e-5), 'people of all processes count'


def test_accuracies_by_hand():
    logits = torch.full((2, 9), -1.0)
    labels = torch.zeros(2, 9)
    logits[0, 1], labels[0, 1], logits[1, 2], labels[1, 0] = 2.0, 1.0, 2.0, 1.0
    logits[0, 3:5], labels[0, 4:6] = 1.0, 1.0  # one of three in both; the second person: both empty
    found = GroupedFocalLoss(GROUPS)(logits, labels)
    assert found['acc_pose'] == 0.5
    assert found['acc_object'].item() == pytest.approx((1 / 3 + 1) / 2) and found['acc_person'] == 1


def test_person_sum_by_hand():
    """Mean over the classes, sum over the people: twice the people, twice the loss."""
    logits, labels = _random(4)
    value = 0.0
    for logit, label in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True):
        probability = 1 / (1 + math.exp(-logit))
        value -= math.log(probability if label else 1 - probability) / 9
    loss = PersonSumBCELoss()
    assert loss(logits, labels)['loss_action'].item() == pytest.approx(value, rel=1e-5)
    twice = loss(logits.repeat(2, 1), labels.repeat(2, 1))['loss_action']
    assert twice.item() == pytest.approx(2 * value, rel=1e-5)


@pytest.mark.parametrize('loss', [GroupedFocalLoss(GROUPS), PersonSumBCELoss()], ids=['grouped', 'sum'])
def test_losses_without_people(loss):
    logits = torch.zeros(0, 9, requires_grad=True)
    found = loss(logits, torch.zeros(0, 9))
    assert all(value == 0 for value in found.values())
    sum(value for name, value in found.items() if 'loss' in name).backward()
    assert logits.grad.shape == (0, 9)


def test_a_step_writes_everyone_with_its_loss(build):
    """F of each clip's first people, detached; the loss is the weighted sum."""
    model = build(loss=dict(_delete_=True, type='GroupedFocalLoss', groups=[('a', 3, 1.2), ('b', 5, 5.0)])).train()
    batch = make_batch([3, 0, 9], seconds=[900, 901, 950])
    seen = []
    model.head.cycle.register_forward_hook(lambda module, args, out: seen.append(out))
    losses = _step(model, batch)
    total = float((losses['loss_a'] + losses['loss_b']).detach())
    assert model.last_loss == pytest.approx(total, rel=1e-6)
    entries = model.train_memory.state_dict()['film']
    assert list(entries) == [900, 901, 950] and len(model.memory) == 0
    for second, want in ((900, seen[0][:3]), (901, seen[0][:0]), (950, seen[0][3:8])):
        features, loss = entries[second]
        assert torch.equal(features, want) and not features.requires_grad and loss == model.last_loss


def test_the_next_step_reads_it_with_the_penalty(build):
    """min(l / c, c / l) of the stored loss and that of the step before."""
    model = build(dropout=0.0).train()
    model.train_cfg['jitter'] = False
    seen = []
    model.head.interaction.register_forward_pre_hook(lambda module, args: seen.append(args[2].unflatten(1, (6, 5))))
    first, second, third = (make_batch([2], seconds=[s], seed=s) for s in (900, 901, 902))
    _step(model, first)
    one = model.last_loss
    _step(model, second)
    two = model.last_loss
    assert one != two
    assert not seen[0][0, [0, 1, 3, 4, 5]].any(), 'the first clip is alone'
    stored = {s: model.train_memory.state_dict()['film'][s][0] for s in (900, 901)}
    torch.testing.assert_close(seen[1][0, 1, :2], stored[900])
    _step(model, third)
    torch.testing.assert_close(seen[2][0, 0, :2], stored[900] * min(one / two, two / one))
    torch.testing.assert_close(seen[2][0, 1, :2], stored[901])
    assert not seen[2][0, 3:].any() and seen[2][0, 2, :2].any()


def test_people_of_all_processes_are_remembered(build):
    """With the mean of their losses, so that all processes hold the same."""
    model = build().train()
    elsewhere = [('film', 950, torch.ones(2, 12)), ('another film', 3, torch.ones(0, 12))]
    module = 'mvbench_plugins.cycleacr.detector'
    with (
        patch(f'{module}.is_distributed', lambda: True),
        patch(f'{module}.all_gather_object', lambda own: [own, elsewhere]),
        patch(f'{module}.reduce_mean', lambda loss: loss * 3),
    ):
        losses = _step(model, make_batch([1], seconds=[900]))
    assert model.last_loss == pytest.approx(3 * float(losses['loss_action'].detach()), rel=1e-6)
    entries = model.train_memory.state_dict()
    assert (list(entries['film']), list(entries['another film'])) == ([900, 950], [3])
    assert torch.equal(entries['film'][950][0], torch.ones(2, 12)) and entries['film'][950][1] == model.last_loss


def test_a_step_that_overflows_leaves_no_trace(build):
    """Mixed precision skips such a step; were it remembered, all later losses would be NaN."""
    model, batch = build().train(), make_batch([2], seconds=[900])
    _step(model, batch)
    before, last = copy.deepcopy(model.train_memory.state_dict()), model.last_loss
    with torch.no_grad():
        model.head.cls_score.bias[0] = math.nan
    assert not math.isfinite(_step(model, make_batch([2], seconds=[901]))['loss_action'])
    assert model.last_loss == last and list(model.train_memory.state_dict()['film']) == list(before['film'])
    with torch.no_grad():
        model.head.cls_score.bias[0] = 0.0
    assert math.isfinite(_step(model, make_batch([2], seconds=[901]))['loss_action'])


def test_most_people_of_a_clip_in_training(build):
    """Others at each step where there are more, neither moved nor shrunk nor in another order."""
    model = build(train_cfg=dict(max_persons=4, jitter=False)).train()
    cut = []
    model.head.roi_align.register_forward_pre_hook(lambda module, args: cut.append(args[1]))
    batch = make_batch([6, 2])
    torch.manual_seed(0)
    for _ in range(6):
        _step(model, batch)
    people = batch['data_samples'][0].gt_instances.bboxes.tolist()
    chosen = [[people.index(box) for box in rois[:4, 1:].tolist()] for rois in cut]
    assert all(rois[:, 0].tolist() == [0] * 4 + [1] * 2 for rois in cut)
    assert all(numbers == sorted(numbers) for numbers in chosen) and len(set(map(tuple, chosen))) > 1


def test_jitter_within_the_published_range():
    """Drawn anew for each side of each box, mostly outwards, never outside of the clip."""
    torch.manual_seed(0)
    boxes = torch.tensor([[100.0, 60.0, 139.0, 79.0]]).repeat(4000, 1)
    moved = (jitter_boxes(boxes, (200, 300)) - boxes) / torch.tensor([40.0, 20.0, 40.0, 20.0])
    for side, (low, high) in enumerate(((-0.2, 0.1), (-0.1, 0.05), (-0.1, 0.2), (-0.05, 0.1))):
        assert low <= moved[:, side].min() < low + 0.01 and high - 0.01 < moved[:, side].max() <= high
    assert torch.corrcoef(moved.T).fill_diagonal_(0).abs().max() < 0.06
    edge = torch.tensor([[0.0, 0.0, 299.0, 199.0], [298.0, 198.0, 299.0, 199.0], [299.0, 199.0, 299.0, 199.0]])
    for _ in range(20):
        x1, y1, x2, y2 = jitter_boxes(edge, (200, 300)).unbind(1)
        assert x1.min() >= 0 and y1.min() >= 0 and x2.max() <= 299 and y2.max() <= 199
        assert (x2 - x1).min() >= 1 and (y2 - y1).min() >= 1


def test_jitter_in_training_only(build):
    model, batch = build(), make_batch([2])
    cut = []
    model.head.roi_align.register_forward_pre_hook(lambda module, args: cut.append(args[1][:, 1:]))
    model.train()
    _step(model, batch)
    _step(model, batch)
    assert not torch.equal(cut[0], cut[1])
    model.eval()
    for _ in range(2):
        model.test_step(copy.deepcopy(batch))
    assert torch.equal(cut[2], cut[3])
