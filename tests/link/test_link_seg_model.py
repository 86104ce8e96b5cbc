"""The segmentation networks: they learn from every part, batches do not matter, strange batches are survived."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import load_case
from link_clouds import NUM_CLASSES, make_batch, make_cloud, make_labels, small_model
from mmengine.runner import load_checkpoint
from run import run_case

from mvbench_plugins.common.checkpoint import strict_mismatches
from mvbench_plugins.link.checkpoint import convert_state_dict

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'link'
UNET = 'linkunet_cosx-2x3_4xb2-25e_semantickitti-seg'
ENCODER = 'linkencoder_cos-3x5_4xb2-25e_semantickitti-seg'


@pytest.fixture(params=[UNET, ENCODER])
def model(request, config_dir):
    return small_model(config_dir, request.param)


def test_every_part_learns(model):
    clouds = [make_cloud(400), make_cloud(300, seed=1)]
    batch = model.train().data_preprocessor(make_batch(clouds, make_labels(clouds)), training=True)
    losses = model(**batch, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert set(losses) == {'loss_ce', 'loss_lovasz'} and torch.isfinite(total)
    assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_classifier_starts_as_published(model):
    """With torch's weights: the stock head's are a tenth of that."""
    model.init_weights()
    last = model.decode_head.conv_seg
    last = last if isinstance(last, torch.nn.Linear) else last[2]
    bound = 1 / last.weight[0].numel() ** 0.5
    assert 0.8 * bound < last.weight.abs().max() <= bound


def test_learns_a_scan(model):
    """A few steps: the loss falls, and most points are told right, of five classes."""
    cloud = make_cloud(300)
    labels = make_labels([cloud])
    batch = model.train().data_preprocessor(make_batch([cloud], labels), training=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    totals = []
    for _ in range(15):
        total, _ = model.parse_losses(model(**batch, mode='loss'))
        totals.append(total.item())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    (result,) = model.test_step(make_batch([cloud]))  # still normalised as in training
    labelled = labels[0] != NUM_CLASSES
    right = result.pred_pts_seg.pts_semantic_mask == labels[0]
    assert totals[-1] < 0.6 * totals[0] and right[labelled].float().mean() > 0.7


@torch.no_grad()
def test_predictions_do_not_depend_on_the_batch(model):
    clouds = [make_cloud(400), torch.zeros(0, 4), make_cloud(300, seed=1), make_cloud(1, seed=2)]
    together = model.eval().test_step(make_batch(clouds))
    for cloud, result in zip(clouds, together, strict=True):
        (alone,) = model.test_step(make_batch([cloud]))
        logits = result.pts_seg_logits.pts_seg_logits
        assert logits.shape == (NUM_CLASSES + 1, len(cloud))
        torch.testing.assert_close(logits, alone.pts_seg_logits.pts_seg_logits, rtol=1e-4, atol=1e-4)
        assert torch.equal(result.pred_pts_seg.pts_semantic_mask, logits.argmax(0))


@torch.no_grad()
def test_points_of_a_voxel_share_its_answer(model):
    cloud = make_cloud(200)
    (result,) = model.eval().test_step(make_batch([torch.cat([cloud, cloud + torch.tensor([1e-4, 0, 0, 0.5])])]))
    first, second = result.pred_pts_seg.pts_semantic_mask.split(200)
    assert (first == second).float().mean() > 0.95  # all but those that the step takes into another voxel


def test_unlabelled_points_do_not_train(model):
    clouds = [make_cloud(100)]
    labels = [torch.full((100,), NUM_CLASSES)]
    batch = model.train().data_preprocessor(make_batch(clouds, labels), training=True)
    losses = model(**batch, mode='loss')
    assert losses['loss_ce'] == losses['loss_lovasz'] == 0
    labels[0][0] = 3
    batch = model.data_preprocessor(make_batch(clouds, labels), training=True)
    losses = model(**batch, mode='loss')
    assert losses['loss_ce'] > 0 and losses['loss_lovasz'] > 0


def test_batch_without_points_is_named(model):
    batch = make_batch([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.long)] * 2)
    with pytest.raises(ValueError, match=r"training batch without points: \['scan_0.bin', 'scan_1.bin'\]"):
        model(**model.train().data_preprocessor(batch, training=True), mode='loss')


def test_backbone_names_another_point_size(model):
    with pytest.raises(ValueError, match='voxels have 5 features, the backbone takes in_channels=4'):
        model.backbone(torch.zeros(3, 5), torch.tensor([[0, 0, 0, i] for i in range(3)]))


@pytest.mark.parametrize(('case', 'config'), [('seg_linkunet', UNET), ('seg_linkencoder', ENCODER)])
def test_official_file_loads_directly(case, config, config_dir, tmp_path):
    """As released: under ``model``, with the names of a distributed run, unlabelled points first."""
    weights = load_case(CASES / case).state_dict()
    path = tmp_path / 'max-iou-val.pt'
    torch.save(dict(model={f'module.{key}': value for key, value in weights.items()}, optimizer={}), path)
    model = small_model(config_dir, config, channels=64)
    load_checkpoint(model, str(path), map_location='cpu')
    last = 'classifier.2' if config == ENCODER else 'classifier.0'
    ours = model.decode_head.conv_seg[2] if config == ENCODER else model.decode_head.conv_seg
    assert torch.equal(ours.weight[NUM_CLASSES], weights[f'{last}.weight'][0])
    assert torch.equal(ours.bias[:NUM_CLASSES], weights[f'{last}.bias'][1:])
    assert torch.equal(model.backbone.stages[3].linear_kernel.pos_weight[0].weight, weights['elk4.pos_weight.0.weight'])

    converted, dropped = convert_state_dict(weights)
    assert not strict_mismatches(model, converted)
    assert {name.split('.')[0] for name in dropped} == ({'up1', 'up2', 'up3', 'up4'} if config == ENCODER else set())
    again, dropped = convert_state_dict(converted)
    assert not dropped and all(torch.equal(again[key], value) for key, value in converted.items())


def test_file_of_another_model_is_refused(config_dir, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict=torch.nn.Linear(3, 3).state_dict()), path)
    with pytest.raises(ValueError, match=r'other.pth holds weights of another model'):
        load_checkpoint(small_model(config_dir, UNET), str(path))


@pytest.mark.parametrize('name', ['seg_linkunet', 'seg_linkencoder'])
def test_recorded_case(name):
    report, passed = run_case(load_case(CASES / name))
    assert passed and ' 0 left out' in report, report
