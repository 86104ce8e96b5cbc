"""The decoder: initialisation, gradients, losses, post-processing, unusual batches, precision."""

from __future__ import annotations

import copy
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from mmaction.structures import ActionDataSample
from stmixer_batches import NUM_ACTIONS, make_batch
from torch import Tensor, nn

from mvbench_plugins.common.xyzr import decode_xyzr
from mvbench_plugins.stmixer import STMixerDecoderStage
from mvbench_plugins.stmixer.decoder_stage import Predictions, Queries
from mvbench_plugins.stmixer.sampling import flatten_clip_pyramid

KINDS = ('loss_person', 'loss_action', 'loss_bbox', 'loss_giou')


def _losses(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    data = model.data_preprocessor(copy.deepcopy(batch), training=True)
    return model(**data, mode='loss')


def _predict(model: nn.Module, batch: dict) -> list[ActionDataSample]:
    return model.eval().test_step(copy.deepcopy(batch))


def _all_people(head: nn.Module) -> None:
    """Give every query, whatever its score, in the order of queries."""
    head.test_cfg = dict(person_score_thr=0.0, fallback_topk=3)


def test_initialisation(small_model):
    from mmaction.registry import MODELS

    torch.manual_seed(0)
    model = MODELS.build(small_model.model)
    model.init_weights()
    head = model.head
    for stage in head.stages:
        assert 0 <= stage.iof_tau.min() and stage.iof_tau.max() <= 4 and stage.iof_tau.std() > 0.3
        assert stage.action_head[-1].bias.tolist() == pytest.approx([-4.5951] * NUM_ACTIONS, abs=1e-3)
        assert not stage.box_head[-1].weight.any() and not stage.box_head[-1].bias.any()
        assert not stage.sampling_offset.weight.any()
        offset = stage.sampling_offset.bias.view(stage.num_groups, stage.num_points, 3)
        assert not offset[..., 2].any() and 0.2 < offset[..., :2].std() < 0.4 and offset[..., :2].abs().max() <= 0.5
        for branch in (stage.spatial, stage.temporal):
            generator = branch.mixing.parameter_generator
            assert not generator.weight.any() and generator.bias.abs().max().item() == pytest.approx(1 / 8, rel=0.02)
            assert not branch.attention.in_proj_bias.any() and not branch.attention.out_proj.bias.any()
            assert branch.ffn.layers[1].weight.abs().max().item() == pytest.approx((6 / 128) ** 0.5, rel=0.02)  # Xavier
    assert head.spatial_queries.weight.std().item() == pytest.approx(1, abs=0.1)
    # So the first boxes are the whole clip, without its padding.
    model.eval()
    clip = make_batch([0], sizes=[(56, 80)])
    boxes = model(**model.data_preprocessor(clip), mode='tensor')[-1].boxes
    assert torch.allclose(boxes, torch.tensor([0.0, 0.0, 80.0, 56.0]).expand_as(boxes), atol=1e-3)


def test_gradients_reach_every_parameter(build, batch):
    model = build().train()
    sum(_losses(model, batch).values()).backward()
    without, zero = set(), set()
    for name, param in model.named_parameters():
        if param.grad is None:
            without.add(name)  # would stop distributed training
        elif not param.grad.any():
            zero.add(name)
    assert not without and zero <= {'head.stages.0.iof_tau'}
    # In the first stage all boxes are the same, hence the bias of the attention is the same for all queries.
    first, second = (stage.iof_tau.grad.abs().max() for stage in model.head.stages[:2])
    assert first < 1e-3 * second
    for stage in model.head.stages:
        for branch in (stage.spatial, stage.temporal):
            _, key, value = branch.attention.in_proj_bias.grad.chunk(3)
            # A bias of the keys shifts all logits of a query alike.
            assert key.abs().max() < 1e-3 * value.abs().max()


@pytest.mark.parametrize('people', [[0, 2], [0, 0]], ids=['one without', 'all without'])
def test_clips_without_people(build, people):
    model = build().train()
    losses = _losses(model, make_batch(people))
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads.values())
    if not sum(people):
        for kind in KINDS[1:]:
            assert losses[kind] == 0
    assert losses['loss_person'] > 0 and grads['head.stages.0.person_head.0.weight'].any()


def test_more_people_than_queries(build):
    """Queries run out: each takes the person that suits it best."""
    model = build(num_queries=2).train()
    losses = _losses(model, make_batch([5, 1]))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_names_and_sum_of_the_losses(build, batch):
    """The sum of what the model returns is the mean of all weighted terms."""
    model = build(num_stages=6).train()
    targets = [sample.gt_instances for sample in batch['data_samples']]
    losses = _losses(model, batch)
    assert set(losses) == {f'{prefix}{kind}' for prefix in ('', *(f'd{k}.' for k in range(5))) for kind in KINDS}
    assert len(losses) == 24
    with patch.object(model.head, '_stage_loss', lambda *_: {kind: torch.tensor(6.0) for kind in KINDS}):
        averaged = _losses(model, batch)
    assert sum(averaged.values()) == pytest.approx(6.0)
    assert sum(map(len, targets)) == 4


def test_losses_by_hand(build, batch):
    """One stage's terms from the definitions, with the matching taken as given."""
    model = build().train()
    head, targets = model.head, [sample.gt_instances for sample in batch['data_samples']]
    shapes = [sample.img_shape for sample in batch['data_samples']]
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 10, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 5 + torch.rand(2, 10, 2, generator=generator) * 40], dim=-1)
    predictions = Predictions(
        torch.randn(2, 10, 2, generator=generator), torch.randn(2, 10, NUM_ACTIONS, generator=generator), boxes
    )
    matches = [(torch.tensor([1, 4, 7]), torch.tensor([2, 0, 1])), (torch.tensor([9]), torch.tensor([0]))]
    with patch.object(head, '_match', side_effect=matches):
        losses = head._stage_loss(predictions, targets, shapes, torch.tensor(2.5))

    log_softmax = predictions.person_logits.log_softmax(-1)
    weighted = weights = bce = count = l1 = giou = 0.0
    for i, (query, person) in enumerate(matches):
        h, w = shapes[i]
        for j in range(10):
            matched = j in query
            weight = 1.0 if matched else 0.1
            weighted, weights = weighted - weight * log_softmax[i, j, 0 if matched else 1], weights + weight
        for j, k in zip(query.tolist(), person.tolist(), strict=True):
            probability = predictions.action_logits[i, j].sigmoid()
            label = targets[i].labels[k, 1:]
            bce = bce - (label * probability.log() + (1 - label) * (1 - probability).log()).sum()
            count += NUM_ACTIONS
            a, b = boxes[i, j], targets[i].bboxes[k]
            l1 = l1 + ((a - b) / torch.tensor([w, h, w, h])).abs().sum()
            overlap = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
            union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap
            hull = (torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])).prod()
            giou = giou + 1 - overlap / union + (hull - union) / hull
    want = (2 * weighted / weights, 24 * bce / count, 2 * l1 / 2.5, 2 * giou / 2.5)
    for kind, value in zip(KINDS, want, strict=True):
        assert losses[kind].item() == pytest.approx(float(value), rel=1e-5), kind


def test_number_of_people_is_averaged_over_processes(build, batch):
    """Twice as many people elsewhere: box losses are divided by the average, others stay."""
    model = build().train()
    alone = _losses(model, batch)
    with patch('mvbench_plugins.common.person_set_loss.reduce_mean', lambda people: people * 2):
        together = _losses(model, batch)
    for name, loss in alone.items():
        share = 2.0 if name.endswith(('bbox', 'giou')) else 1.0
        assert (loss / together[name]).item() == pytest.approx(share, rel=1e-4), name
    with patch('mvbench_plugins.common.person_set_loss.reduce_mean', lambda people: people * 0):
        few = _losses(model, batch)
    assert (few['loss_bbox'] / alone['loss_bbox']).item() == pytest.approx(4.0, rel=1e-4), 'one person at least'


def test_matching_prefers_the_better_query(build, batch):
    """Boxes on top of the people, in reverse order, with equal scores: each finds its person."""
    head = build().head
    target, shape = batch['data_samples'][0].gt_instances, batch['data_samples'][0].img_shape
    boxes = torch.cat([torch.tensor([[0.0, 0.0, 96.0, 64.0]] * 4), target.bboxes.flip(0)])
    query, person = head._match(torch.zeros(7, 2), boxes, target, shape)
    assert query.tolist() == [4, 5, 6] and person.tolist() == [2, 1, 0]
    # A person score speaks for a query among equals.
    boxes = target.bboxes[:1].expand(4, -1)
    query, _ = head._match(torch.tensor([[0.0, 0], [0, 3], [3, 0], [1, 0]]), boxes, target[:1], shape)
    assert query.tolist() == [2]


def test_labels_of_another_data_set(build, batch):
    batch['data_samples'][0].gt_instances.labels = torch.zeros(3, 81)
    with pytest.raises(ValueError, match=r'labels have \[9, 81\] columns.*8 classes and expects 9.*num_classes'):
        _losses(build(), batch)


def test_wrong_number_of_frames(build, batch):
    batch['inputs'] = [clip[:, :4] for clip in batch['inputs']]
    with pytest.raises(ValueError, match='has 4 frames.*num_frames=8.*clip_len'):
        _predict(build(), batch)


def test_width_that_does_not_divide():
    with pytest.raises(ValueError, match=r'embed_dims \(60\) must be a multiple of 8, of num_heads \(8\)'):
        STMixerDecoderStage(embed_dims=60)


def test_unknown_mode(build, batch):
    model = build()
    with pytest.raises(ValueError, match="'losses' is none of"):
        model(**model.data_preprocessor(batch), mode='losses')


def _post_process(head: nn.Module, predictions: Predictions, shapes: list[tuple[int, int]]) -> list[ActionDataSample]:
    samples = [ActionDataSample(metainfo=dict(img_shape=shape, video_id='v', timestamp=902)) for shape in shapes]
    with patch.object(head, 'forward', lambda *_: [predictions]):
        return head.predict([], samples)


def test_post_processing(build):
    head = build().head
    head.test_cfg = dict(person_score_thr=0.6, fallback_topk=3)
    person = torch.tensor([[0.59, 0.9, 0.61, 0.7], [0.3, 0.1, 0.5, 0.4]])
    logits = torch.stack([person.log(), (1 - person).log()], dim=-1)
    boxes = torch.tensor([-5.0, 10.0, 300.0, 40.0]).repeat(2, 4, 1)
    boxes[0, 3] = torch.tensor([20.0, 16.0, 40.0, 32.0])
    actions = torch.randn(2, 4, NUM_ACTIONS, generator=torch.Generator().manual_seed(0))
    first, second = _post_process(head, Predictions(logits, actions, boxes), [(64, 80), (32, 100)])
    # Above the threshold in the order of the queries; else the best three, best first.
    assert first.pred_instances.person_scores.tolist() == pytest.approx([0.9, 0.61, 0.7])
    assert second.pred_instances.person_scores.tolist() == pytest.approx([0.5, 0.4, 0.3])
    # Clipped to the last pixel, divided by the size: nothing reaches 1.
    assert first.pred_instances.bboxes[0].tolist() == pytest.approx([0, 10 / 64, 79 / 80, 40 / 64])
    assert first.pred_instances.bboxes[2].tolist() == pytest.approx([0.25, 0.25, 0.5, 0.5])
    assert second.pred_instances.bboxes[0].tolist() == pytest.approx([0, 10 / 32, 99 / 100, 31 / 32])
    # Column = action id; not multiplied by the person score.
    scores = first.pred_instances.scores
    assert scores.shape == (3, NUM_ACTIONS + 1) and not scores[:, 0].any()
    torch.testing.assert_close(scores[:, 1:], actions[0, [1, 2, 3]].sigmoid())
    torch.testing.assert_close(second.pred_instances.scores[:, 1:], actions[1, [2, 3, 0]].sigmoid())


def test_fewer_queries_than_the_fallback(build):
    head = build().head
    head.test_cfg = dict(person_score_thr=0.6, fallback_topk=3)
    logits = torch.tensor([[[0.0, 1.0], [0.0, 2.0]]])
    (sample,) = _post_process(head, Predictions(logits, torch.zeros(1, 2, 8), torch.zeros(1, 2, 4)), [(9, 9)])
    assert len(sample.pred_instances) == 2


def test_detections_in_a_batch_of_unequal_clips(build, batch):
    """Boxes are relative to the clip, not to the padded batch; metainfo and annotations stay."""
    model = build()
    _all_people(model.head)
    samples = _predict(model, batch)
    for got, sample in zip(samples, batch['data_samples'], strict=True):
        assert (got.video_id, got.timestamp, got.img_shape) == (sample.video_id, sample.timestamp, sample.img_shape)
        assert torch.equal(got.gt_instances.bboxes, sample.gt_instances.bboxes)
        people = got.pred_instances
        h, w = sample.img_shape
        assert people.bboxes.shape == (10, 4) and people.bboxes.min() >= 0
        assert (people.bboxes <= torch.tensor([w - 1, h - 1] * 2) / torch.tensor([w, h] * 2)).all()
        assert people.scores.shape == (10, 9) and people.person_scores.shape == (10,)
        assert set(got.to_dict()['pred_instances']) == {'bboxes', 'scores', 'person_scores'}


def test_batch_equals_clips_one_by_one(build):
    model = build()
    _all_people(model.head)
    batch = make_batch([1, 1, 1], sizes=[(64, 96)] * 3)
    together = _predict(model, batch)
    for i, sample in enumerate(together):
        (alone,) = _predict(model, {key: value[i : i + 1] for key, value in batch.items()})
        for name in ('bboxes', 'scores', 'person_scores'):
            torch.testing.assert_close(alone.pred_instances[name], sample.pred_instances[name], rtol=1e-3, atol=1e-4)
    assert (together[0].pred_instances.bboxes - together[1].pred_instances.bboxes).abs().max() > 1e-3


def test_forward_without_data_samples(build):
    """The whole input counts as clip."""
    model = build().eval()
    clip = torch.randn(1, 3, 8, 64, 96)
    with torch.no_grad():
        bare = model(clip)
        told = model(clip, [ActionDataSample(metainfo=dict(img_shape=(64, 96)))])
    assert len(bare) == 3 and isinstance(bare[0], Predictions)
    assert all(torch.equal(a, b) for x, y in zip(bare, told, strict=True) for a, b in zip(x, y, strict=True))


def test_order_of_frames_matters(build):
    """Only the temporal branch can tell: its features keep their frames."""
    model = build()
    _all_people(model.head)
    batch = make_batch([0], sizes=[(64, 96)])
    ahead = _predict(model, batch)[0].pred_instances.scores
    batch['inputs'] = [batch['inputs'][0].flip(1)]
    assert (ahead - _predict(model, batch)[0].pred_instances.scores).abs().max() > 1e-3


def _stage_inputs(stage: STMixerDecoderStage) -> tuple[list[Tensor], Queries]:
    generator = torch.Generator().manual_seed(0)
    feats = [torch.randn(2, 64, 8, 64 // s, 96 // s, generator=generator) for s in (4, 8, 16, 32)]
    position = torch.rand(2, 10, 4, generator=generator) * torch.tensor([96.0, 64.0, 2.0, 1.0])
    position[..., 2] += 4
    contents = (torch.randn(2, 10, 64, generator=generator) for _ in range(2))
    return feats, Queries(position, *contents)


def test_bfloat16_of_one_stage(build):
    """Boxes and the sampling stay float32 under autocast, whatever the features are."""
    stage = build().head.stages[0].eval()
    feats, queries = _stage_inputs(stage)
    with torch.no_grad():
        exact, want = stage(flatten_clip_pyramid(feats, (4, 8, 16, 32), 2), queries)
        with torch.autocast('cpu', torch.bfloat16):
            pyramid = flatten_clip_pyramid([feat.bfloat16() for feat in feats], (4, 8, 16, 32), 2)
            rounded, got = stage(pyramid, queries)
    assert pyramid.value.dtype == rounded.position.dtype == got.boxes.dtype == torch.float32
    assert (got.boxes - want.boxes).abs().max() < 1.0 and (want.boxes - decode_xyzr(queries.position)).abs().max() > 1
    assert F.cosine_similarity(rounded.temporal.float(), exact.temporal, dim=-1).min() > 0.999


def test_a_stage_is_one_graph(build):
    """``torch.compile`` finds nothing that it has to leave to Python, forwards and backwards."""
    stage = build().head.stages[0]
    feats, queries = _stage_inputs(stage)
    pyramid = flatten_clip_pyramid(feats, (4, 8, 16, 32), 2)
    want = stage(pyramid, queries)[1]
    got = torch.compile(stage, fullgraph=True, backend='aot_eager')(pyramid, queries)[1]
    torch.testing.assert_close(got.boxes, want.boxes, rtol=1e-4, atol=1e-3)
    got.action_logits.sum().backward()
    assert stage.temporal.mixing.out_proj.weight.grad.any()


def test_bfloat16_of_the_whole_model(build):
    model, batch = build().train(), make_batch([2], sizes=[(32, 64)])
    with torch.autocast('cpu', torch.bfloat16):
        losses = _losses(model, batch)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    _all_people(model.head)
    with torch.autocast('cpu', torch.bfloat16):
        people = _predict(model, batch)[0].pred_instances
    for name in ('bboxes', 'scores', 'person_scores'):
        assert people[name].dtype == torch.float32 and torch.isfinite(people[name]).all(), name
