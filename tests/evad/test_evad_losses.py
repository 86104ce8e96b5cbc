"""Losses, what is matched, and which parameters learn."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from evad_batches import NUM_ACTIONS, losses_of, make_batch

from mvbench_plugins.common.person_set_loss import Matches
from mvbench_plugins.evad.localization import PersonPredictions

PERSON_KINDS = ('loss_person', 'loss_bbox', 'loss_giou')


def _random_people(num: int = 10) -> PersonPredictions:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, num, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 5 + torch.rand(2, num, 2, generator=generator) * 40], dim=-1)
    return PersonPredictions(torch.randn(2, num, 2, generator=generator), boxes, torch.zeros(2, num, 64))


def test_names_and_sum_of_the_losses(build, batch):
    """Six stages and six blocks: 24 terms, whose sum is the mean of all weighted terms."""
    model = build(head=dict(localizer=dict(num_stages=6), refinement=dict(depth=6))).train()
    losses = losses_of(model, batch)
    assert set(losses) == {
        f'{prefix}{kind}' for prefix in ('', *(f's{k}.' for k in range(5))) for kind in PERSON_KINDS
    } | {f'{prefix}loss_action' for prefix in ('', *(f'd{k}.' for k in range(5)))}
    assert len(losses) == 24
    nobody = Matches(torch.tensor([0]), torch.tensor([0]), [])
    terms = {kind: torch.tensor(6.0) for kind in PERSON_KINDS}
    with (
        patch.object(model.head, 'person_losses', lambda *_: (terms, nobody)),
        patch('mvbench_plugins.evad.head.action_loss', lambda *_: torch.tensor(6.0)),
    ):
        assert sum(losses_of(model, batch).values()) == pytest.approx(6.0)


def test_losses_by_hand(build, batch):
    """Every term from its definition, with the matching taken as given; actions by the last stage's matching."""
    head, samples = build().head, batch['data_samples']
    targets = [sample.gt_instances for sample in samples]
    people = [_random_people(), _random_people()]
    people[0] = people[0]._replace(person_logits=-people[0].person_logits)
    action_logits = [torch.randn(2, 10, NUM_ACTIONS, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    found = [
        [(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2])), (torch.tensor([5]), torch.tensor([0]))],
        [(torch.tensor([1, 4, 7]), torch.tensor([2, 0, 1])), (torch.tensor([9]), torch.tensor([0]))],
    ]
    with patch.object(head, '_match', side_effect=found[0] + found[1]):
        losses = head.loss(people, action_logits, samples)
    num_terms = 2 * 3 + 3
    assert len(losses) == num_terms
    for prefix, stage, matches in (('s0.', people[0], found[0]), ('', people[1], found[1])):
        weighted = weights = l1 = giou = 0.0
        log_softmax = stage.person_logits.log_softmax(-1)
        for i, (query, person) in enumerate(matches):
            h, w = samples[i].img_shape
            for j in range(10):
                weight = 1.0 if j in query else 0.1
                weighted = weighted - weight * log_softmax[i, j, 0 if j in query else 1]
                weights = weights + weight
            for j, k in zip(query.tolist(), person.tolist(), strict=True):
                a, b = stage.boxes[i, j], targets[i].bboxes[k]
                l1 = l1 + ((a - b) / torch.tensor([w, h, w, h])).abs().sum()
                overlap = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
                union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap
                hull = (torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])).prod()
                giou = giou + 1 - overlap / union + (hull - union) / hull
        for kind, value in zip(PERSON_KINDS, (2 * weighted / weights, 5 * l1 / 4, 2 * giou / 4), strict=True):
            assert losses[prefix + kind].item() == pytest.approx(float(value) / num_terms, rel=1e-5), prefix + kind
    for k, logits in enumerate(action_logits):
        bce = 0.0
        for i, (query, person) in enumerate(found[1]):
            probability, label = logits[i, query].sigmoid(), targets[i].labels[person, 1:]
            bce = bce - (label * probability.log() + (1 - label) * (1 - probability).log()).sum()
        name = 'loss_action' if k == 2 else f'd{k}.loss_action'
        assert losses[name].item() == pytest.approx(12 * float(bce) / (4 * NUM_ACTIONS) / num_terms, rel=1e-5), name


def test_number_of_people_is_averaged_over_processes(build, batch):
    """Twice as many people elsewhere: box losses are divided by the average, others stay."""
    model = build().train()
    alone = losses_of(model, batch)
    with patch('mvbench_plugins.common.person_set_loss.reduce_mean', lambda people: people * 2):
        together = losses_of(model, batch)
    for name, loss in alone.items():
        share = 2.0 if name.endswith(('bbox', 'giou')) else 1.0
        assert (loss / together[name]).item() == pytest.approx(share, rel=1e-4), name


def test_matching_cost(build, batch):
    """Section 3: 5 L1 of relative corners + 2 class + 2 GIoU, the cheapest assignment."""
    head = build().head
    target, shape = batch['data_samples'][0].gt_instances, batch['data_samples'][0].img_shape
    boxes = torch.cat([torch.tensor([[0.0, 0.0, 96.0, 64.0]] * 4), target.bboxes.flip(0)])
    query, person = head._match(torch.zeros(7, 2), boxes, target, shape)
    assert query.tolist() == [4, 5, 6] and person.tolist() == [2, 1, 0]
    query, _ = head._match(
        torch.tensor([[0.0, 0], [0, 3], [3, 0], [1, 0]]), target.bboxes[:1].expand(4, -1), target[:1], shape
    )
    assert query.tolist() == [2], 'a person score speaks for a query among equals'
    costs = {type(cost).__name__: cost.weight for cost in head.assigner.match_costs}
    assert costs == dict(ClassificationCost=2.0, BBoxL1Cost=5.0, IoUCost=2.0)


def test_gradients_reach_every_parameter(build, batch):
    """Distributed training waits for all of them; no parameter is without one."""
    model = build(backbone=dict(with_cp=True), head=dict(refinement=dict(with_cp=True))).train()
    sum(losses_of(model, batch).values()).backward()
    assert not [name for name, param in model.named_parameters() if param.grad is None]
    assert not [name for name, param in model.named_parameters() if not param.grad.any()]
    for stage in model.head.localizer.stages:
        # A bias of the keys shifts all logits of a query alike: zero but for rounding.
        _, key, value = stage.attention.attn.in_proj_bias.grad.chunk(3)
        assert key.abs().max() < 1e-3 * value.abs().max()


def test_every_parameter_takes_part_without_pruning(build, batch):
    """The mask token is used by nobody then, and still must not stop distributed training."""
    model = build(backbone=dict(keep_rate=1.0)).train()
    sum(losses_of(model, batch).values()).backward()
    without = {name for name, param in model.named_parameters() if param.grad is None}
    zero = {name for name, param in model.named_parameters() if param.grad is not None and not param.grad.any()}
    assert not without and zero == {'head.refinement.mask_token'}


def test_queries_learn_through_all_stages(build, batch):
    """The last stage's boxes reach the first queries; the boxes themselves learn in the first stage only."""
    model = build().train()
    losses = losses_of(model, batch)
    boxes, features = model.proposals.init_proposal_bboxes.weight, model.proposals.init_proposal_features.weight
    box_grad, feature_grad = torch.autograd.grad(
        losses['loss_bbox'], (boxes, features), retain_graph=True, allow_unused=True
    )
    assert feature_grad.any() and box_grad is None
    assert torch.autograd.grad(losses['s0.loss_bbox'], boxes)[0].any()


def test_actions_do_not_move_boxes(build, batch):
    """Section 2.8: the boxes of the action branch are detached, the features are not."""
    model = build().train()
    loss = losses_of(model, batch)['loss_action']
    fc_reg, patches = model.head.localizer.stages[-1].fc_reg.weight, model.backbone.patch_embed.projection.weight
    boxes, features = torch.autograd.grad(loss, (fc_reg, patches), allow_unused=True)
    assert boxes is None and features.any()


@pytest.mark.parametrize('people', [[0, 2], [0, 0]], ids=['one without', 'all without'])
def test_clips_without_people(build, people):
    model = build().train()
    losses = losses_of(model, make_batch(people))
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads.values())
    learns = {bool(grad.any()) for name, grad in grads.items() if 'action_heads' in name}
    assert learns == {sum(people) > 0}
    if not sum(people):
        assert all(loss == 0 for name, loss in losses.items() if not name.endswith('loss_person'))
    assert losses['loss_person'] > 0 and grads['head.localizer.stages.0.fc_cls.weight'].any()


def test_more_people_than_queries(build):
    losses = losses_of(build(proposals=dict(num_proposals=2)).train(), make_batch([5, 1]))
    assert all(torch.isfinite(loss) for loss in losses.values())
