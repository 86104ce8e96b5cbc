"""The detector: predictions, modes, precision, frames that are not trained, bad input."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmdet3d.structures import LiDARInstance3DBoxes
from sparsebev_batches import NUM_CLASSES, losses_of, make_batch, predict
from torch import nn

from mvbench_plugins.ops.msmv_sampling import FlatViews
from mvbench_plugins.sparsebev.boxes import decode_target_boxes


def _raw(model: nn.Module, batch: dict):
    with torch.no_grad():
        return model(**model.data_preprocessor(copy.deepcopy(batch)), mode='tensor')


def test_predictions_are_those_of_the_last_stage(build, batch):
    """Boxes of mmdet3d on the ground of their centres, the best first, in the data samples."""
    model = build().eval()
    logits, targets = _raw(model, batch)
    assert logits.shape == (3, 2, 16, NUM_CLASSES) and targets.shape == (3, 2, 16, 10)
    for b, found in enumerate(predict(model, batch)):
        best, pair = logits[-1, b].sigmoid().flatten().topk(20)
        torch.testing.assert_close(found.scores_3d, best)
        assert torch.equal(found.labels_3d, pair % NUM_CLASSES)
        boxes = decode_target_boxes(targets[-1, b, pair // NUM_CLASSES])
        assert isinstance(found.bboxes_3d, LiDARInstance3DBoxes) and found.bboxes_3d.tensor.shape == (20, 9)
        torch.testing.assert_close(found.bboxes_3d.gravity_center, boxes[:, :3])
        torch.testing.assert_close(found.bboxes_3d.tensor[:, 3:], boxes[:, 3:])


def test_samples_of_a_batch_do_not_meet(build):
    model, batch = build().eval(), make_batch([2, 1])
    together = predict(model, batch)
    for i in range(2):
        alone = dict(inputs=dict(img=batch['inputs']['img'][i : i + 1]), data_samples=batch['data_samples'][i : i + 1])
        torch.testing.assert_close(predict(model, alone)[0].scores_3d, together[i].scores_3d)


def test_predictions_change_with_past_images_and_with_calibration(build, batch):
    model = build().eval()
    before = _raw(model, batch).boxes
    other = copy.deepcopy(batch)
    other['inputs']['img'][0][6:] = 255 - other['inputs']['img'][0][6:]
    after = _raw(model, other).boxes
    assert (after[:, 0] - before[:, 0]).abs().max() > 1e-4 and torch.equal(after[:, 1], before[:, 1])
    other = copy.deepcopy(batch)
    sample = other['data_samples'][0]
    sample.set_metainfo(dict(lidar2img=np.roll(sample.lidar2img, 1, axis=0)))
    assert (_raw(model, other).boxes[:, 0] - before[:, 0]).abs().max() > 1e-4


@pytest.mark.parametrize(('num_frames', 'levels'), [(1, 1), (15, 3)])
def test_other_counts_of_frames_and_levels(build, num_frames, levels):
    neck = dict(type='mmdet.FPN', in_channels=[16, 32], out_channels=64, num_outs=levels)
    if levels == 1:
        neck.update(end_level=0, num_outs=1)
    model = build(head=dict(num_frames=num_frames, num_levels=levels, num_points=2), img_neck=neck).train()
    batch = make_batch([2], num_frames)
    assert sum(losses_of(model, batch).values()).isfinite()
    model.eval()
    assert predict(model, batch)[0].scores_3d.isfinite().all()


def test_backbone_with_its_own_pyramid(build, batch):
    """No neck, as with EVA-02."""
    head = dict(in_channels=16, num_groups=2, num_heads=2, num_levels=1)
    backbone = dict(
        type='mmdet.ResNet', depth=18, base_channels=8, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,)
    )
    model = build(head=head, img_backbone=backbone, img_neck=None)
    assert model.img_neck is None and not any(name.startswith('img_neck') for name in model.state_dict())
    assert len(predict(model.eval(), batch)) == 2


def test_layout_of_features(build, batch):
    """Frame by frame, camera by camera, what backbone and neck make of each image."""
    model = build().eval()
    imgs = model.data_preprocessor(copy.deepcopy(batch))['inputs']['imgs']
    with torch.no_grad():
        views = model.extract_feat(imgs)
        alone = model.img_neck(model.img_backbone(imgs[1, 8:9]))
    assert views.value.shape == (2, 2, 6, 8 * 12 + 4 * 6, 4, 16) and views.shapes == ((8, 12), (4, 6))
    torch.testing.assert_close(views.value[1, 1, 2, :96].flatten(1), alone[0][0].flatten(1).T)
    torch.testing.assert_close(views.value[1, 1, 2, 96:].flatten(1), alone[1][0].flatten(1).T)


def test_initialisation(build):
    """Pillars on a grid at the bottom of the range, x slow and y fast, at rest."""
    torch.manual_seed(0)
    head = build(head=dict(num_query=25)).pts_bbox_head
    head.init_weights()
    boxes = head.init_query_bbox.weight
    grid = [[(i + 0.5) / 5, (j + 0.5) / 5] for i in range(5) for j in range(5)]
    torch.testing.assert_close(boxes[:, :2].detach(), torch.tensor(grid))
    assert not boxes[:, 2].any() and (boxes[:, 5] == 1.5).all() and not boxes[:, 8:].any()
    rest = boxes[:, [3, 4, 6, 7]]
    assert abs(rest.mean()) < 0.3 and 0.8 < rest.std() < 1.2
    assert head.label_enc.weight.shape == (NUM_CLASSES + 1, 63) and 0.9 < head.label_enc.weight.std() < 1.1


def test_whole_model_initialises_all_of_its_parts(build):
    """The chain of init_weights reaches the shared layer."""
    model = build()
    layer = model.pts_bbox_head.decoder.layer
    nn.init.ones_(layer.cls_branch[-1].bias)
    for module in model.modules():
        if hasattr(module, '_is_init'):
            module._is_init = False
    model.init_weights()
    torch.testing.assert_close(layer.cls_branch[-1].bias.sigmoid(), torch.full((NUM_CLASSES,), 0.01))
    assert not layer.mixing.parameter_generator.weight.any()


def test_gradients_reach_every_trained_parameter(build, batch):
    model = build(head=dict(dropout=0.1, with_cp=True)).train()
    sum(losses_of(model, batch).values()).backward()
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in params.values())
    # The stock backbone starts with residual branches that are multiplied by 0.
    still = [name for name, p in params.items() if not p.grad.any() and not name.startswith('img_backbone.layer')]
    assert not still
    queries = params['pts_bbox_head.init_query_bbox.weight'].grad
    assert queries[:, :8].any(0).all() and not queries[:, 8:].any(), 'all of a query but its velocity'


def test_autocast_stays_out_of_the_head(build, batch):
    """Backbone and neck run in half precision, everything behind them in single."""
    model = build().train()
    seen = {}
    for name in ('img_backbone.layer2', 'pts_bbox_head.decoder.layer.sampling', 'pts_bbox_head.decoder.layer.ffn'):
        model.get_submodule(name).register_forward_hook(lambda m, a, out, name=name: seen.update({name: out.dtype}))
    torch.manual_seed(1)  # of the denoising
    exact = losses_of(model, batch)
    torch.manual_seed(1)
    with torch.autocast('cpu', torch.bfloat16):
        losses = losses_of(model, batch)
    assert list(seen.values()) == [torch.bfloat16, torch.float32, torch.float32]
    sum(losses.values()).backward()
    for name in ('d0.loss_cls_dn', 'd0.loss_bbox_dn', 'd0.loss_bbox'):
        assert losses[name].dtype == torch.float32 and losses[name].item() == pytest.approx(exact[name].item(), rel=0.1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_frames_without_gradient(build):
    """The same features; only the leading frames teach the backbone; every part is in its own mode again."""
    batch = make_batch([2], num_frames=3)
    models = [build(head=dict(num_frames=3), num_grad_frames=n).train() for n in (None, 1)]
    imgs = models[0].data_preprocessor(copy.deepcopy(batch))['inputs']['imgs']
    views = [model.extract_feat(imgs) for model in models]
    torch.testing.assert_close(views[0].value, views[1].value)
    for frame in range(3):
        teaches = torch.autograd.grad(
            views[1].value[:, frame].square().sum(), models[1].img_backbone.conv1.weight, retain_graph=True
        )[0].any()
        assert teaches == (frame == 0)
    modes = [{name: module.training for name, module in model.named_modules()} for model in models]
    assert modes[0] == modes[1] and not modes[1]['img_backbone.bn1'] and modes[1]['img_backbone.layer1']


def test_frames_without_gradient_run_in_evaluation_mode(build):
    model = build(num_grad_frames=1).train()
    modes, backbone = [], model.img_backbone.layer2
    backbone.register_forward_pre_hook(lambda module, args: modes.append((module.training, len(args[0]))))
    losses_of(model, make_batch([1, 1]))
    assert modes == [(True, 12), (False, 12)]
    model.eval()
    predict(model, make_batch([1]))
    assert modes[2:] == [(False, 12)], 'in a test, all frames at once'


@pytest.mark.parametrize(('frames_at_once', 'images'), [(1, [12, 12, 12]), (2, [24, 12]), (5, [36])])
def test_frames_in_parts(build, frames_at_once, images):
    """In tests, to save memory: the same numbers. Training is not concerned."""
    batch = make_batch([2, 1], num_frames=3)
    whole = build(head=dict(num_frames=3)).eval()
    model = build(head=dict(num_frames=3), test_cfg=dict(frames_at_once=frames_at_once)).eval()
    seen = []
    model.img_backbone.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    for one, other in zip(_raw(model, batch), _raw(whole, batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert seen == images
    losses_of(model.train(), batch)
    assert seen[len(images) :] == [36]


def test_dropout_works_in_training_only(build, batch):
    model = build(head=dict(dropout=0.5, denoising=None)).train()
    first, second = (losses_of(model, batch)['loss_cls'].item() for _ in range(2))
    assert first != second
    model.eval()
    torch.testing.assert_close(_raw(model, batch), _raw(model, batch), rtol=0, atol=0)


def _change(batch: dict, **fields) -> dict:
    batch['data_samples'][1].set_metainfo(fields)
    return batch


def _bad(batch: dict, what: str) -> dict:
    sample = batch['data_samples'][1]
    lidar2img, times = sample.lidar2img.copy(), sample.img_timestamp.copy()
    if what == 'singular':
        lidar2img[7, 0] = lidar2img[7, 1]
        return _change(batch, lidar2img=lidar2img)
    if what == 'nan':
        lidar2img[3, 2, 2] = float('nan')
        return _change(batch, lidar2img=lidar2img)
    if what == 'few matrices':
        return _change(batch, lidar2img=lidar2img[:6])
    if what == 'many times':
        return _change(batch, img_timestamp=np.tile(times, 2))
    if what == 'no time':
        times[11] = float('nan')
        return _change(batch, img_timestamp=times)
    return make_batch([1, 1], num_frames=3)


@pytest.mark.parametrize(
    ('what', 'message'),
    [
        ('singular', r'sample scene-21: lidar2img\[7\] \(frame 1, CAM_FRONT_RIGHT\) is .* singular'),
        ('nan', r'sample scene-21: lidar2img\[3\] \(frame 0, CAM_BACK\) is .*nan.* correct the calibration'),
        ('few matrices', r'lidar2img has shape \(6, 4, 4\), expected 2 frames of 6 cameras: \[12, 4, 4\]; num_frames'),
        ('many times', r'img_timestamp has shape \(24,\), expected 2 frames of 6 cameras: \[12\]; num_frames'),
        ('no time', r'img_timestamp\[11\] \(frame 1, CAM_BACK_RIGHT\) is nan, expected seconds'),
        ('frames', r'lidar2img has shape \(18, 4, 4\), expected 2 frames .* pts_bbox_head \(model\) must agree'),
    ],
)
def test_bad_geometry_is_named(build, batch, what, message):
    with pytest.raises(ValueError, match=message):
        predict(build().eval(), _bad(batch, what))


def test_missing_geometry_is_named(build, batch):
    del batch['data_samples'][0].img_timestamp
    with pytest.raises(ValueError, match='sample scene-20: metainfo has no img_timestamp; name lidar2img and'):
        predict(build().eval(), batch)


def test_images_of_another_number_of_frames(build, batch):
    batch['inputs']['img'] = [images[:6] for images in batch['inputs']['img']]
    with pytest.raises(ValueError, match='images of 1 frames beside .* 2, .* key_frame_only.* needs test_cfg.online'):
        predict(build().eval(), batch)


def test_features_of_another_number_of_levels(build, batch):
    with pytest.raises(ValueError, match='features of 2 levels for pts_bbox_head.num_levels=4'):
        predict(build(head=dict(num_levels=4)).eval(), batch)


def test_annotations_of_another_model(build):
    batch = make_batch([2])
    batch['data_samples'][0].gt_instances_3d.labels_3d[1] = NUM_CLASSES
    with pytest.raises(ValueError, match='sample scene-20: gt_labels_3d goes from . to 4, expected 0 to 3: metainfo'):
        losses_of(build().train(), batch)
    batch = make_batch([2])
    instances = batch['data_samples'][0].gt_instances_3d
    instances.bboxes_3d = LiDARInstance3DBoxes(instances.bboxes_3d.tensor[:, :7])
    with pytest.raises(ValueError, match='gt_bboxes_3d has 7 columns, expected 9 with the velocity'):
        losses_of(build().train(), batch)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(head=dict(num_query=900 - 1)), 'num_query: found 899, expected a square .* 841 and 900'),
        (dict(head=dict(num_groups=3)), r'in_channels: found 64, expected a multiple of num_groups \(3\)'),
        (dict(head=dict(code_weights=[1.0] * 8)), 'code_weights: found 8 numbers, expected 10'),
        (
            dict(head=dict(pc_range=[-1, -1, -1, 1, 1, 1])),
            'bbox_coder.pc_range: found .* expected the pc_range of the head',
        ),
        (dict(num_grad_frames=0), 'num_grad_frames: found 0, expected at least 1'),
        (dict(test_cfg=dict(frames_at_once=0)), 'test_cfg.frames_at_once: found 0, expected at least 1'),
        (dict(test_cfg=dict(onlin=True)), r"model.test_cfg: found \['onlin'\], expected some of .*'online'"),
    ],
)
def test_bad_configuration_is_named(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_training_without_assigner(build, batch):
    with pytest.raises(ValueError, match=r'model.train_cfg: found none, expected dict\(assigner'):
        losses_of(build(train_cfg=None).train(), batch)


def test_features_stay_as_they_are(build, batch):
    """A second run on the same features and samples gives the same, which the published code does not."""
    model = build().eval()
    data = model.data_preprocessor(copy.deepcopy(batch))
    with torch.no_grad():
        views = model.extract_feat(data['inputs']['imgs'])
        kept = FlatViews(views.value.clone(), views.shapes)
        first = model.pts_bbox_head(views, data['data_samples'])
        second = model.pts_bbox_head(views, data['data_samples'])
    assert torch.equal(views.value, kept.value)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
