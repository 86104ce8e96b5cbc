"""The detector: predictions, initialisation, precision, bad input."""

from __future__ import annotations

import pytest
import torch
from evad_batches import NUM_ACTIONS, losses_of, make_batch, predict
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from torch import Tensor, nn

from mvbench_plugins.evad.localization import PersonPredictions


def _post_process(head: nn.Module, people: PersonPredictions, actions: Tensor, shapes: list[tuple[int, int]]):
    samples = [ActionDataSample(metainfo=dict(img_shape=shape)) for shape in shapes]
    return [
        s.pred_instances
        for s in head.predict([people._replace(boxes=people.boxes * 0), people], [actions * 0, actions], samples)
    ]


def test_post_processing(build):
    """Section 4: last stage and last block; the person score is a gate and no factor."""
    head = build().head
    person = torch.tensor([[0.69, 0.9, 0.71, 0.8], [0.3, 0.1, 0.5, 0.4]])
    boxes = torch.tensor([-5.0, 10.0, 300.0, 40.0]).repeat(2, 4, 1)
    boxes[0, 3] = torch.tensor([20.0, 16.0, 40.0, 32.0])
    logits = torch.stack([person.log(), (1 - person).log()], dim=-1)
    actions = torch.randn(2, 4, NUM_ACTIONS, generator=torch.Generator().manual_seed(0))
    people = PersonPredictions(logits, boxes, torch.zeros(2, 4, 64))
    first, second = _post_process(head, people, actions, [(64, 80), (32, 100)])
    assert first.person_scores.tolist() == pytest.approx([0.9, 0.71, 0.8])
    assert second.person_scores.tolist() == pytest.approx([0.3, 0.1, 0.5, 0.4]), 'none is sure: all, in their order'
    # Clipped to the last pixel of the clip, divided by its size: nothing reaches 1.
    assert first.bboxes[0].tolist() == pytest.approx([0, 10 / 64, 79 / 80, 40 / 64])
    assert first.bboxes[2].tolist() == pytest.approx([0.25, 0.25, 0.5, 0.5])
    assert second.bboxes[0].tolist() == pytest.approx([0, 10 / 32, 99 / 100, 31 / 32])
    assert first.scores.shape == (3, NUM_ACTIONS + 1) and not first.scores[:, 0].any()
    torch.testing.assert_close(first.scores[:, 1:], actions[0, 1:].sigmoid())
    torch.testing.assert_close(second.scores[:, 1:], actions[1].sigmoid())


def test_detections_in_a_batch_of_unequal_clips(build, batch):
    """Boxes are relative to the clip, not to the padded batch; metainfo and annotations stay."""
    model = build()
    model.head.test_cfg = dict(person_score_thr=0.0)
    padded = model.data_preprocessor(batch)['inputs']
    assert padded.shape == (2, 3, 16, 64, 96) and not padded[1, :, :, 56:].any() and not padded[1, ..., 75:].any()
    for got, sample in zip(predict(model, batch), batch['data_samples'], strict=True):
        assert (got.video_id, got.timestamp, got.img_shape) == (sample.video_id, sample.timestamp, sample.img_shape)
        assert torch.equal(got.gt_instances.bboxes, sample.gt_instances.bboxes)
        people, (h, w) = got.pred_instances, sample.img_shape
        assert people.bboxes.shape == (10, 4) and people.bboxes.min() >= 0
        assert (people.bboxes <= torch.tensor([w - 1, h - 1] * 2) / torch.tensor([w, h] * 2)).all()
        assert set(people.keys()) == {'bboxes', 'scores', 'person_scores'}


def test_first_boxes_are_parts_of_the_clip_without_padding(build, batch):
    model = build(backbone=dict(keep_rate=1.0)).eval()
    first = []
    model.head.register_forward_pre_hook(lambda module, args: first.append(args[2]))
    predict(model, batch)
    centre, size = model.proposals.init_proposal_bboxes.weight.detach().split(2, dim=1)
    relative = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    want = torch.stack([relative * torch.tensor([w, h, w, h]) for h, w in ((64.0, 96.0), (56.0, 75.0))])
    torch.testing.assert_close(first[0], want)


def test_forward_without_data_samples(build):
    """The whole input counts as clip."""
    model = build().eval()
    clip = torch.randn(1, 3, 16, 64, 96)
    with torch.no_grad():
        people, actions = model(clip)
        told, _ = model(clip, [ActionDataSample(metainfo=dict(img_shape=(64, 96)))])
    assert len(people) == 2 and len(actions) == 1 and actions[0].shape == (1, 10, NUM_ACTIONS)
    torch.testing.assert_close(people, told, rtol=0, atol=0)


def test_order_of_frames_matters(build):
    model, batch = build(), make_batch([0])
    model.head.test_cfg = dict(person_score_thr=0.0)
    ahead = predict(model, batch)[0].pred_instances.scores
    batch['inputs'] = [batch['inputs'][0].flip(1)]
    assert (ahead - predict(model, batch)[0].pred_instances.scores).abs().max() > 1e-4


def test_initialisation(narrow):
    """Section 2.6: Xavier for every matrix of the head and the mask token; vectors of the decoder blocks start at 0."""
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(narrow).model)
    model.init_weights()
    for name, param in model.head.named_parameters():
        if param.dim() > 1:
            limit = (6 / (param.shape[0] + param.shape[1])) ** 0.5 if param.dim() == 2 else (3 / 24) ** 0.5
            assert 0.8 * limit < param.abs().max() <= limit, name
            assert param.std().item() == pytest.approx(limit / 3**0.5, rel=0.25), name
        elif name.startswith('refinement.blocks') and 'norm' not in name:
            assert not param.any(), name
    for module in model.head.modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all()
    stage = model.head.localizer.stages[0]
    for linear in (stage.instance_interactive_conv.dynamic_layer, stage.instance_interactive_conv.fc_layer):
        assert linear.bias.any() and linear.bias.abs().max() <= linear.in_features**-0.5, "PyTorch's own"
    for conv in (*model.neck.lateral_convs, *model.neck.fpn_convs):
        weight = conv.conv.weight
        limit = (3 / (weight.shape[1] * weight.shape[2] * weight.shape[3])) ** 0.5
        assert 0.9 * limit < weight.abs().max() <= limit and not conv.conv.bias.any()
    boxes, features = model.proposals.init_proposal_bboxes.weight, model.proposals.init_proposal_features.weight
    assert boxes.tolist() == [[0.5, 0.5, 1.0, 1.0]] * 10 and features.std().item() == pytest.approx(1, abs=0.1)


def test_bfloat16_of_predictions(build):
    """Under autocast everything stays finite and boxes near to those of single precision."""
    model, batch = build(), make_batch([2], sizes=[(64, 96)])
    model.head.test_cfg = dict(person_score_thr=0.0)
    want = predict(model, batch)[0].pred_instances
    with torch.autocast('cpu', torch.bfloat16):
        got = predict(model, batch)[0].pred_instances
    for name in ('bboxes', 'scores', 'person_scores'):
        assert got[name].dtype == torch.float32 and torch.isfinite(got[name]).all(), name
    assert (got.bboxes - want.bboxes).abs().max() < 0.02


def test_first_boxes_are_exact_in_bfloat16(build):
    """A width of 299 is no number of bfloat16."""
    model, batch = build(), make_batch([1], sizes=[(32, 299)])
    first = []
    model.head.register_forward_pre_hook(lambda module, args: first.append(args[2]))
    predict(model, batch)
    with torch.autocast('cpu', torch.bfloat16):
        predict(model, batch)
    assert torch.equal(first[0], first[1])


def test_bfloat16_of_training(build, batch):
    model = build(backbone=dict(with_cp=True), head=dict(refinement=dict(with_cp=True))).train()
    exact = losses_of(model, batch)
    with torch.autocast('cpu', torch.bfloat16):
        losses = losses_of(model, batch)
    sum(losses.values()).backward()
    for name in ('loss_person', 'loss_bbox', 'loss_giou', 'loss_action'):
        assert losses[name].item() == pytest.approx(exact[name].item(), rel=0.1), name
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_labels_of_another_data_set(build, batch):
    batch['data_samples'][0].gt_instances.labels = torch.zeros(3, 81)
    with pytest.raises(ValueError, match=r'labels have \[9, 81\] columns.*8 classes and expects 9.*num_classes'):
        losses_of(build(), batch)


def test_unknown_mode(build, batch):
    model = build()
    with pytest.raises(ValueError, match="'losses' is none of"):
        model(**model.data_preprocessor(batch), mode='losses')


@pytest.mark.parametrize('which', ['predictions', 'annotated boxes'])
def test_numbers_that_are_not_finite(build, batch, which):
    model = build()
    if which == 'predictions':
        nn.init.constant_(model.head.localizer.stages[0].fc_cls.bias, float('nan'))
    else:
        batch['data_samples'][0].gt_instances.bboxes[0, 0] = float('nan')
    with pytest.raises(ValueError, match=f'the {which} are not finite'):
        losses_of(model, batch)
