"""The equilibrium decoder in training and at test time."""

from __future__ import annotations

import copy

import pytest
import torch
from deqdet_batches import make_batch

from mvbench_plugins.deqdet.decoder_layer import AdaMixerHead
from mvbench_plugins.deqdet.fixed_point import RefinementAwarePerturbation, relative_residual


def _losses(model, batch) -> dict[str, torch.Tensor]:
    data = model.data_preprocessor(copy.deepcopy(batch), training=True)
    return model(**data, mode='loss')


def _total(losses) -> torch.Tensor:
    return sum(value for name, value in losses.items() if 'loss' in name)


def _predict(model, batch) -> list:
    model.eval()
    with torch.no_grad():
        return model.test_step(copy.deepcopy(batch))


def _count_applications(model) -> list[int]:
    counts = [0, 0]
    for k, layer in enumerate(model.roi_head.bbox_head):
        layer.register_forward_hook(lambda *_, k=k: counts.__setitem__(k, counts[k] + 1))
    return counts


def _saved_bytes(function) -> int:
    """Most bytes of distinct storages kept for backward at any one time."""
    import weakref

    alive: dict[int, int] = {}
    peak = 0

    class Held:
        def __init__(self, tensor):
            nonlocal peak
            self.tensor = tensor
            key, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
            if key not in alive:
                alive[key] = size
                weakref.finalize(self, alive.pop, key, None)
            peak = max(peak, sum(alive.values()))

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        function()
    return peak


def test_early_gradients_are_those_of_the_plain_sum(build, batch):
    gradients, values = {}, {}
    for early in (True, False):
        model = build(grad_accumulation=early).train()
        torch.manual_seed(5)  # the same perturbations
        losses = _losses(model, batch)
        (3.0 * _total(losses)).backward()  # a loss scale, as AMP or accumulation would apply
        values[early] = {name: value.item() for name, value in losses.items()}
        gradients[early] = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert values[True] == pytest.approx(values[False], rel=1e-5)
    assert list(values[True]) == list(values[False])
    for name, expected in gradients[False].items():
        torch.testing.assert_close(gradients[True][name], expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_memory_does_not_grow_with_supervised_places(build, batch):
    def peak(**options) -> int:
        model = build(refinement_steps=12, **options).train()
        return _saved_bytes(lambda: _total(_losses(model, batch)).backward())

    few, many = (peak(supervision_position=list(places)) for places in ([12], range(1, 13)))
    plain = peak(supervision_position=list(range(1, 13)), grad_accumulation=False)
    assert many < 1.05 * few and plain > 2 * many


def test_reweighted_losses_are_refused(build, batch):
    losses = _losses(build().train(), batch)
    losses['iter3_loss_cls'] = 2 * losses['iter3_loss_cls']
    with pytest.raises(RuntimeError, match='grad_accumulation=False'):
        _total(losses).backward()


def test_layer_applications_in_training(build, batch):
    model = build().train()
    counts = _count_applications(model)
    names = [name.removesuffix('_loss_cls') for name in _losses(model, batch) if name.endswith('loss_cls')]
    # 2 after the first layer, 6 on the path, 2 at each of the 3 supervised places
    assert counts == [1, 2 + 6 + 3 * 2]
    assert names == ['init', 'init^1', 'init^2', 'iter1', 'iter3', 'iter6']


@pytest.mark.parametrize('steps', [0, 1, 9])
def test_refinement_steps_are_a_test_time_option(build, batch, steps):
    model = build(test_rcnn=dict(refinement_steps=steps))
    counts = _count_applications(model)
    _predict(model, batch)
    assert counts == [1, steps + 1]
    assert model.roi_head.benchmark_info() == dict(equilibrium_layer_applications=steps + 1, at_most=steps + 1)


def test_early_stop_on_the_residual(build, batch):
    model = build(test_rcnn=dict(refinement_steps=50, residual_tol=0.5))
    _predict(model, batch)
    used = model.roi_head.benchmark_info()['equilibrium_layer_applications']
    assert used < 51
    # The same number of steps without a tolerance gives the same detections.
    same = build(test_rcnn=dict(refinement_steps=used - 1))
    for a, b in zip(_predict(model, batch), _predict(same, batch), strict=True):
        assert torch.equal(a.pred_instances.bboxes, b.pred_instances.bboxes)


def test_relative_residual():
    old = torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]]])
    new = torch.tensor([[[3.0, 4.5]], [[0.0, 4.0]]])
    assert relative_residual(new, old).tolist() == pytest.approx([0.1, 1.0])


@pytest.mark.parametrize('objects', [[0, 0], [0, 2]])
def test_images_without_objects(build, objects):
    model = build().train()
    losses = _losses(model, make_batch(objects))
    _total(losses).backward()
    assert all(torch.isfinite(value).all() for value in losses.values())
    # Normalised by one object, not by a vanishing number, which gave values of 1e9.
    assert losses['init_loss_cls'] < 1e4
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_batched_images_give_the_boxes_of_single_images(build):
    batch = make_batch([1, 1])
    batch['inputs'] = [image[:, :54] for image in batch['inputs']]
    for sample in batch['data_samples']:
        sample.set_metainfo(dict(img_shape=(54, 96)))
    model = build()
    together = _predict(model, batch)
    for i, result in enumerate(together):
        alone = _predict(model, {key: [value[i]] for key, value in batch.items()})[0]
        order, order_alone = (r.pred_instances.scores.argsort() for r in (result, alone))
        torch.testing.assert_close(
            result.pred_instances.bboxes[order], alone.pred_instances.bboxes[order_alone], rtol=1e-4, atol=1e-2
        )


def test_boxes_come_back_in_the_original_image(build, batch):
    model = build().eval()
    with torch.no_grad():
        data = model.data_preprocessor(copy.deepcopy(batch))
        original = model.predict(data['inputs'], data['data_samples'], rescale=True)[1].pred_instances.bboxes.clone()
        resized = model.predict(data['inputs'], data['data_samples'], rescale=False)[1].pred_instances.bboxes
    torch.testing.assert_close(original, resized * 2)


def test_prediction_needs_no_ground_truth(build, batch):
    for sample in batch['data_samples']:
        del sample.gt_instances
    results = _predict(build(), batch)
    assert [len(result.pred_instances) for result in results] == [20, 20]


def test_decoder_stays_in_full_precision_under_autocast(build, batch):
    model = build().train()
    dtypes = set()
    for layer in model.roi_head.bbox_head:
        layer.register_forward_hook(lambda module, args, out: dtypes.update(x.dtype for x in out))
    with torch.autocast('cpu', torch.bfloat16):
        losses = _losses(model, batch)
    _total(losses).backward()
    assert dtypes == {torch.float32}
    assert all(torch.isfinite(value).all() for value in losses.values())


def test_frozen_layer(build, batch):
    model = build(frozen_stages=1).train()
    assert not model.roi_head.bbox_head[0].training and model.roi_head.bbox_head[1].training
    _total(_losses(model, batch)).backward()
    assert all(p.grad is None for p in model.roi_head.bbox_head[0].parameters())
    assert model.roi_head.bbox_head[1].fc_cls.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    'options, named',
    [
        (dict(supervision_position=[0, 3]), r'supervision_position \[0\]'),
        (dict(supervision_position=[7]), r'supervision_position \[7\] outside of 1\.\.6'),
        (dict(rag=0), 'rag must be at least 1'),
        (dict(test_rcnn=dict(refinement_steps=-1)), 'refinement_steps must be at least 0'),
        (dict(bbox_head=dict(content_dim=60)), r'content_dim \(60\)'),
    ],
)
def test_impossible_settings_are_refused(build, options, named):
    with pytest.raises(ValueError, match=named):
        build(**options)


def test_perturbation_probabilities_and_intensity():
    from mvbench_plugins.deqdet import DecoderState

    box = torch.tensor([10.0, 10.0, 50.0, 50.0]).expand(1, 500, 4)
    state = DecoderState.from_boxes(box, torch.randn(1, 500, 64))
    never = RefinementAwarePerturbation(0.0, 0.0, 0.1, 25.0)(state)
    assert never.content is state.content and never.box is state.box
    always = RefinementAwarePerturbation(1.0, 1.0, 0.1, 25.0)(state)
    assert (always.box - box).std().item() == pytest.approx(25.0, rel=0.1)
    noise = always.content - 0.9 * state.content
    # A tenth of the query's norm (8 for 64 unit-variance channels) per element.
    assert noise.std().item() == pytest.approx(0.8, rel=0.1)


def test_initialisation_of_a_layer(build):
    """What AdaMixer depends on, and what a second stock initialisation would destroy."""
    torch.manual_seed(0)
    layer = AdaMixerHead(content_dim=256, feat_channels=256, in_points=64)
    layer.init_weights()
    offset = layer.sampling_offset.bias.view(4, 64, 3)
    grid = torch.arange(8) / 8 - 0.4375
    assert torch.equal(offset[0, :, 0], grid.repeat_interleave(8)) and torch.equal(offset[0, :, 1], grid.repeat(8))
    assert (offset[..., 2] == -1).all() and (layer.sampling_offset.weight == 0).all()
    assert (layer.fc_reg.weight == 0).all() and (layer.fc_reg.bias == 0).all()
    assert layer.fc_cls.bias.mean().item() == pytest.approx(-4.595, abs=1e-3)
    assert 0 <= layer.iof_tau.min() and layer.iof_tau.max() <= 4 and layer.iof_tau.std() > 0.5
    generator = layer.mixing.parameter_generator
    assert (generator.weight == 0).all() and generator.bias.abs().max().item() == pytest.approx(1 / 16, rel=0.01)
    assert (layer.attention.in_proj_bias == 0).all() and layer.attention.out_proj.bias.std() > 0

    model = build()
    first = model.roi_head.bbox_head[1].sampling_offset.bias.clone()
    model.init_weights()  # the runner's call on a model that is initialised already
    assert torch.equal(model.roi_head.bbox_head[1].sampling_offset.bias, first)


def test_untied_baseline(small_model, batch):
    from mmdet.registry import MODELS
    from mmengine.config import Config

    cfg = Config(small_model.model.to_dict())
    layer = cfg.roi_head.bbox_head
    cfg.roi_head = dict(type='FFNDetRoIHead', num_stages=3, bbox_head=layer)
    model = MODELS.build(cfg)
    model.init_weights()
    model.train()
    losses = _losses(model, batch)
    _total(losses).backward()
    assert [name for name in losses if name.endswith('loss_cls')] == [f'stage_{k}loss_cls' for k in range(3)]
    assert all(layer.fc_cls.weight.grad.abs().sum() > 0 for layer in model.roi_head.bbox_head)
    assert len(_predict(model, batch)[0].pred_instances) == 20


@pytest.mark.parametrize(
    'mask_head, names',
    [
        (dict(type='WarpedEfficientDynamicMaskHead', in_channels=64, num_classes=8), {'loss_dice'}),
        (dict(type='DeCoupleMLVLEHead', embed_dim=64), {'loss_mask', 'loss_dice'}),
    ],
    ids=['local', 'dense'],
)
@pytest.mark.parametrize('early', [True, False])
def test_mask_heads_train_and_predict(small_model, batch, mask_head, names, early):
    from mmdet.registry import MODELS
    from mmengine.config import Config

    cfg = Config(small_model.model.to_dict())
    mask_head = dict(mask_head)
    if 'in_channels' in mask_head:
        mask_head['dynamic_conv_cfg'] = dict(
            type='DynamicConv',
            in_channels=64,
            feat_channels=16,
            out_channels=64,
            input_feat_shape=14,
            with_proj=False,
        )
    cfg.roi_head.mask_head = mask_head
    cfg.roi_head.grad_accumulation = early
    cfg.train_cfg.rcnn.mask_size = 28
    cfg.test_cfg.rcnn.mask_thr_binary = 0.5
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    model.train()
    losses = _losses(model, batch)
    assert {f'iter6_{name}' for name in names} | {f'init_{name}' for name in names} <= set(losses)
    _total(losses).backward()
    assert all(p.grad.abs().sum() > 0 for name, p in model.roi_head.mask_head[1].named_parameters() if 'weight' in name)
    results = _predict(model, batch)
    for result, sample in zip(results, batch['data_samples'], strict=True):
        assert result.pred_instances.masks.shape == (20, *sample.ori_shape)
        assert result.pred_instances.masks.dtype == torch.bool
    empty = make_batch([0, 0])
    assert all(torch.isfinite(value).all() for value in _losses(model.train(), empty).values())
