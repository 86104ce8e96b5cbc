"""The detector: batches of all kinds, who sees whom, initialisation, gradients, precision, bad input."""

from __future__ import annotations

import copy

import pytest
import torch
from cycleacr_batches import NUM_ACTIONS, make_batch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

FIELDS = ('bboxes', 'scores', 'person_scores')


def _predict(model: nn.Module, batch: dict) -> list[ActionDataSample]:
    return model.eval().test_step(copy.deepcopy(batch))


def _losses(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    return model(**model.data_preprocessor(copy.deepcopy(batch), training=True), mode='loss')


def _split(batch: dict) -> list[dict]:
    return [{key: value[i : i + 1] for key, value in batch.items()} for i in range(len(batch['inputs']))]


def _people(batch: dict, keep: slice | list[int]) -> dict:
    """The same clips with only these of the people who are given in each."""
    batch = copy.deepcopy(batch)
    for sample in batch['data_samples']:
        sample.proposals = sample.proposals[keep]
    return batch


def test_batch_equals_clips_one_by_one(build):
    """Different numbers of people: none, one, a few, and more than are looked at (20)."""
    model = build().eval()
    batch = make_batch([3, 0, 25, 1])
    for second in (898, 901, 1021):  # into the memory of the first and the third clip
        model.memory.update('film', second, torch.randn(3, 12))
    together = _predict(model, batch)
    for one, sample in zip(_split(batch), together, strict=True):
        (alone,) = _predict(model, one)
        for name in FIELDS:
            torch.testing.assert_close(alone.pred_instances[name], sample.pred_instances[name], rtol=1e-4, atol=1e-5)
    assert [len(sample.pred_instances) for sample in together] == [3, 0, 25, 1]
    scores = together[2].pred_instances.scores / together[2].pred_instances.person_scores[:, None]
    assert scores[:, 1:].std(0).max() > 1e-3, 'people differ'


@pytest.mark.parametrize('people', [[0], [0, 0], [0, 2, 0]], ids=['alone', 'a whole batch', 'some'])
def test_clips_without_people(build, people):
    model, batch = build().eval(), make_batch(people)
    for num, sample in zip(people, _predict(model, batch), strict=True):
        found = sample.pred_instances
        assert (found.bboxes.shape, found.scores.shape) == ((num, 4), (num, NUM_ACTIONS + 1))
        assert found.person_scores.shape == (num,) and torch.isfinite(found.scores).all()
    features = model(**model.data_preprocessor(batch), mode='tensor')
    assert [tuple(feature.actor_features.shape) for feature in features] == [(num, 12) for num in people]
    model.train()
    losses = _losses(model, batch)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert (losses['loss_action'] == 0) == (sum(people) == 0)
    # Every parameter must take part: distributed training waits for all of them.
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert len(model.train_memory) == len(people)


def test_layout_of_the_predictions(build):
    """Boxes as given, relative, with the last pixel; scores with an empty column 0, times the person's score."""
    model = build()
    batch = make_batch([2, 1], sizes=[(64, 96), (60, 90)])
    batch['data_samples'][0].proposals.bboxes = torch.tensor([[0.0, 0.0, 95.0, 63.0], [12.0, 16.0, 47.0, 31.0]])
    batch['data_samples'][0].proposals.scores = torch.tensor([0.9, 0.5])
    batch['data_samples'][1].proposals.bboxes = torch.tensor([[9.0, 6.0, 44.0, 89.0]])
    first, second = (sample.pred_instances for sample in _predict(model, batch))
    assert first.bboxes.tolist() == [[0, 0, 1, 1], [0.125, 0.25, 0.5, 0.5]]
    torch.testing.assert_close(second.bboxes, torch.tensor([[0.1, 0.1, 0.5, 1.0]]))
    assert first.person_scores.tolist() == pytest.approx([0.9, 0.5])
    assert not first.scores[:, 0].any() and first.scores[:, 1:].min() > 0
    for sample in batch['data_samples']:
        sample.proposals.scores = torch.ones_like(sample.proposals.scores)
    bare, _ = (sample.pred_instances for sample in _predict(model, batch))
    torch.testing.assert_close(first.scores, bare.scores * torch.tensor([[0.9], [0.5]]))
    assert set(first.keys()) == set(FIELDS)


def test_boxes_are_written_in_pixels_of_the_video(build):
    """Section 4: the last pixel, which is added, is one of the video, before the clip was resized."""
    model, batch = build(), make_batch([1])
    batch['data_samples'][0].set_metainfo(dict(original_shape=(256, 192)))
    batch['data_samples'][0].proposals.bboxes = torch.tensor([[12.0, 16.0, 47.0, 31.0]])
    (sample,) = _predict(model, batch)
    want = torch.tensor([[24.0 / 192, 64.0 / 256, 95.0 / 192, 125.0 / 256]])
    torch.testing.assert_close(sample.pred_instances.bboxes, want)


def test_boxes_are_shrunk_for_the_features_only(build):
    """Section 2.3: 5 % of the width and 10 % of the height less, and clipped to the clip before its padding."""
    model = build().eval()
    batch = make_batch([2], sizes=[(50, 90)])
    batch['data_samples'][0].proposals.bboxes = torch.tensor([[10.0, 10.0, 49.0, 29.0], [-20.0, 4.0, 200.0, 90.0]])
    cut = []
    model.head.roi_align.register_forward_pre_hook(lambda module, args: cut.append(args[1]))
    _predict(model, batch)
    w, h = 40 * 0.05 / 2, 20 * 0.1 / 2
    clipped = [0.0, 4 + 87 * 0.1 / 2, 89.0, 49.0]
    torch.testing.assert_close(cut[0], torch.tensor([[0, 10 + w, 10 + h, 49 - w, 29 - h], [0, *clipped]]))


@pytest.mark.parametrize('kind', ['GroupedFocalLoss', 'PersonSumBCELoss'])
def test_scores_of_each_loss(build, kind):
    """Softmax over an exclusive first group, sigmoids otherwise."""
    loss = dict(_delete_=True, type=kind)
    if kind == 'GroupedFocalLoss':
        loss['groups'] = [('pose', 3, 1.2), ('object', 4, 4.0), ('person', 1, 1.0)]
    model, batch = build(loss=loss).eval(), make_batch([2])
    logits = []
    model.head.cls_score.register_forward_hook(lambda module, args, out: logits.append(out))
    (sample,) = _predict(model, batch)
    scores = sample.pred_instances.scores[:, 1:] / sample.pred_instances.person_scores[:, None]
    want = logits[0].sigmoid()
    if kind == 'GroupedFocalLoss':
        want = torch.cat([logits[0][:, :3].softmax(1), want[:, 3:]], dim=1)
    torch.testing.assert_close(scores, want)


def test_people_of_a_clip_see_the_first_ones_only(build):
    """Two of 5 are looked at: the third to the fifth are looked at by nobody, and the order is that given."""
    model, batch = build(max_persons=2).eval(), make_batch([5])
    model.memory.max_per_second = 1
    (sample,) = _predict(model, batch)
    (without,) = _predict(model, _people(batch, [0, 1, 3]))
    rows = sample.pred_instances.scores[[0, 1, 3]]
    torch.testing.assert_close(without.pred_instances.scores, rows, rtol=1e-4, atol=1e-6)
    (other,) = _predict(model, _people(batch, [0, 2, 3]))
    assert (other.pred_instances.scores[2] - rows[2]).abs().max() > 1e-4, 'another second one is noticed'


def test_first_people_of_a_second_are_remembered(build):
    model, batch = build(), make_batch([2])
    features = torch.randn(7, 12)
    scores = []
    # All; then another sixth; then another fifth.
    for changed in (None, 5, 4):
        written = features.clone()
        if changed is not None:
            written[changed] += 3.0
        model.memory.update('film', 901, written)
        scores.append(_predict(model, batch)[0].pred_instances.scores)
    assert torch.equal(scores[0], scores[1]) and (scores[0] - scores[2]).abs().max() > 1e-4


def test_memory_reaches_as_far_as_configured(build):
    """``before=2, after=3``; of the same video; where it lies matters."""
    model, batch = build(), make_batch([2])
    features = torch.randn(3, 12)

    def scores(video: str, second: int) -> Tensor:
        model.memory.clear()
        model.memory.update(video, second, features)
        return _predict(model, batch)[0].pred_instances.scores

    bare = scores('another film', 901)
    for second in (897, 904):
        assert torch.equal(scores('film', second), bare)
    seen = [scores('film', second) for second in (898, 899, 901, 902, 903)]
    for i, one in enumerate(seen):
        for other in (bare, *seen[:i]):
            assert (one - other).abs().max() > 1e-6
    assert torch.equal(scores('film', 900), bare), 'its own second comes from the clip itself'


def test_nothing_is_remembered_by_prediction_alone(build):
    model = build()
    first = _predict(model, make_batch([2, 3], seconds=[900, 901]))
    again = _predict(model, make_batch([2, 3], seconds=[900, 901]))
    assert len(model.memory) == 0
    assert torch.equal(first[0].pred_instances.scores, again[0].pred_instances.scores)


def test_two_passes_by_hand_equal_predict(build):
    model, batch = build().eval(), make_batch([2, 0, 4], seconds=[900, 901, 902])
    (want,) = _predict(model, _split(batch)[0])
    with torch.no_grad():
        data = model.data_preprocessor(copy.deepcopy(batch))
        features = model.extract(**data)
        empty = torch.zeros(3, 6 * 5, 12)
        for row, feature in enumerate(features):
            empty[row, 10 : 10 + min(5, len(feature))] = feature.actor_features[:5]
        got = model.classify(features, empty, data['data_samples'])
    torch.testing.assert_close(got[0].pred_instances.scores, want.pred_instances.scores, rtol=1e-4, atol=1e-5)
    assert features[0].roi_features.shape == (2, 8) and len(got[1].pred_instances) == 0


def test_initialisation(small_model):
    """Sections 2.4 to 2.6: blocks start as the identity."""
    torch.manual_seed(0)
    cfg = small_model.copy()
    cfg.merge_from_dict(dict(model=dict(head=dict(dim=128, hidden_dim=64))))
    model = MODELS.build(cfg.model)
    model.init_weights()
    cycle, interaction = model.head.cycle, model.head.interaction
    small = [cycle.actor_reduce, cycle.context_reduce, cycle.local_reduce, cycle.fuse, model.head.cls_score]
    blocks = [
        *cycle.local_a2c_blocks,
        *cycle.local_c2a_blocks,
        *cycle.global_a2c_blocks,
        *interaction.person_blocks,
        *interaction.memory_blocks,
    ]
    assert len(blocks) == 10
    for block in blocks:
        small += [block.query, block.key, block.value]
        assert not block.out.weight.any() and not block.out.bias.any()
    small.append(interaction.memory_blocks[-1].shortcut)
    for linear in small:
        assert linear.weight.std().item() == pytest.approx(0.01, rel=0.1) and not linear.bias.any()
    assert not cycle.local_temporal_position.any()
    for block in interaction.memory_blocks:
        assert not block.key_position.any() and not block.value_position.any()
    x, others = torch.randn(3, 4, 128), torch.randn(3, 5, 128)
    for block in (*blocks[:6], *interaction.person_blocks):
        assert torch.equal(block(x, others), x)
    assert isinstance(interaction.memory_blocks[0].shortcut, nn.Identity)
    for linear in (model.head.fc1, model.head.fc2):  # kaiming uniform, a = 1
        bound = (3 / linear.in_features) ** 0.5
        assert linear.weight.abs().max().item() == pytest.approx(bound, rel=0.05) and not linear.bias.any()


def test_gradients_reach_every_parameter(build):
    """Also from a clip without people beside others. Biases of keys shift all logits of a query alike: no gradient."""
    model, batch = build().train(), make_batch([3, 0, 2], seconds=[900, 901, 902])
    for second in (898, 899, 903, 904, 905):  # positions of seconds that nobody is in learn from zeros, too
        model.train_memory.update('film', second, torch.randn(2, 12), loss=1.0)
    sum(value for name, value in _losses(model, batch).items() if 'loss' in name).backward()
    zero = {name for name, param in model.named_parameters() if not param.grad.any()}
    assert not zero
    scale = model.head.interaction.person_blocks[0].value.bias.grad.abs().max()
    for name, param in model.named_parameters():
        if name.endswith('key.bias'):
            assert param.grad.abs().max() < 1e-3 * scale, name


def test_first_step_from_the_start(small_model):
    """Untouched initialisation: only what blocks find is multiplied by zero, all else learns at once."""
    torch.manual_seed(0)
    model = MODELS.build(small_model.model)
    model.init_weights()
    model.train()
    _losses(model, make_batch([3, 1]))['loss_action'].backward()
    zero = {name for name, param in model.named_parameters() if not param.grad.any()}
    inside = {name for name in zero if '_blocks.' in name and name.split('.')[-2] in ('query', 'key', 'value')}
    positions = {name for name in zero if name.endswith('_position')}
    # The local branch of the context reaches the actors through a block only.
    assert zero - inside - positions <= {
        f'head.cycle.local_a2c_blocks.{i}.out.{leaf}' for i in range(2) for leaf in ('weight', 'bias')
    } | {'head.cycle.local_reduce.weight', 'head.cycle.local_reduce.bias'}
    assert len(inside) == 10 * 6


def test_memory_carries_no_gradient_into_other_clips(build):
    """What a neighbour's people contribute is a constant."""
    model, batch = build().eval(), make_batch([2])
    data = model.data_preprocessor(batch)
    features = model.extract(**data)
    memory = model.memory.assemble([('film', 900)], [features[0].actor_features])
    assert features[0].actor_features.requires_grad and not memory.requires_grad


@pytest.mark.parametrize('mode', ['loss', 'predict'])
def test_bfloat16(build, mode):
    model, batch = build().eval(), make_batch([3, 0, 1], seconds=[900, 901, 902])
    bank = model.train_memory if mode == 'loss' else model.memory
    bank.update('film', 901, torch.randn(3, 12), loss=1.0)
    model.last_loss = 2.0
    model.train_cfg['jitter'] = False
    with torch.no_grad():
        exact = _losses(model, batch) if mode == 'loss' else _predict(model, batch)
    model.last_loss = 2.0
    with torch.autocast('cpu', torch.bfloat16):
        rounded = _losses(model, batch) if mode == 'loss' else _predict(model, batch)
    if mode == 'loss':
        assert rounded['loss_action'].dtype == torch.float32
        assert rounded['loss_action'].item() == pytest.approx(exact['loss_action'].item(), rel=0.1)
        rounded['loss_action'].backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        return
    for a, b in zip(rounded, exact, strict=True):
        assert a.pred_instances.scores.dtype == torch.float32
        torch.testing.assert_close(a.pred_instances.scores, b.pred_instances.scores, rtol=0, atol=0.1)


def test_maps_of_two_pathways(build):
    """Slow moments are repeated, not blended, and slow channels come first."""
    head = build(in_channels=5, num_frames=4).head
    slow, fast = torch.randn(2, 3, 2, 6, 9), torch.randn(2, 2, 4, 6, 9)
    boxes = [torch.tensor([[8.0, 8.0, 40.0, 30.0]]), torch.zeros(0, 4)]
    people = head.features((slow, fast), boxes)[0]
    assert people.local.shape == (1, 49, 5) and people.clip.tolist() == [0]
    assert torch.equal(people.pooled, people.local.amax(1))
    context = torch.cat([slow.amax((3, 4))[:, :, [0, 0, 1, 1]], fast.amax((3, 4))], dim=1)
    assert torch.equal(people.context, context.transpose(1, 2))


def test_labels_of_another_data_set(build):
    batch = make_batch([3])
    batch['data_samples'][0].gt_instances.labels = torch.zeros(3, 81)
    with pytest.raises(ValueError, match='labels have 81 columns.*8 classes and expects 9.*num_classes'):
        _losses(build(), batch)


def test_wrong_number_of_frames(build):
    batch = make_batch([1])
    batch['inputs'] = [clip[:, :4] for clip in batch['inputs']]
    with pytest.raises(ValueError, match='have 4 frames.*num_frames=8.*clip_len'):
        _predict(build(), batch)


def test_unknown_mode(build):
    model = build()
    with pytest.raises(ValueError, match="'losses' is none of"):
        model(**model.data_preprocessor(make_batch([1])), mode='losses')


@pytest.mark.parametrize('name', ['train_cfg', 'test_cfg'])
def test_misspelt_settings(small_model, name):
    cfg = small_model.copy()
    cfg.merge_from_dict(dict(model={name: dict(jiter=False)}))
    with pytest.raises(ValueError, match=rf"model.{name}: found \['jiter'\], expected some of"):
        MODELS.build(cfg.model)


def test_boxes_that_are_empty_or_outside(build):
    """Clipped to nothing, they still get finite scores."""
    model, batch = build(), make_batch([1])
    boxes = torch.tensor([[20.0, 20.0, 20.0, 20.0], [300.0, 300.0, 400.0, 400.0], [-50.0, -50.0, -40.0, -40.0]])
    batch['data_samples'][0].proposals = InstanceData(bboxes=boxes, scores=torch.ones(3))
    (sample,) = _predict(model, batch)
    assert torch.isfinite(sample.pred_instances.scores).all()
    assert 0 <= sample.pred_instances.bboxes.min() and sample.pred_instances.bboxes.max() <= 1


def test_padding_takes_part_in_the_context(build):
    """As released weights require: the maximum runs over the whole padded map, also for the smaller clip of a batch."""
    head = build().head
    feat = -torch.rand(1, 8, 8, 4, 6) - 1
    feat[..., -1] = 0.0  # far from the box
    people = head.features((feat,), [torch.tensor([[0.0, 0.0, 20.0, 20.0]])])[0]
    assert not people.context.any() and people.pooled.max() < -1
