"""DEQDet: from a recorded case to our outputs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvbench_plugins.common.xyzr import decode_xyzr, encode_xyzr, log_iof, xyzr_embedding
from mvbench_plugins.deqdet import DecoderState
from mvbench_plugins.deqdet.checkpoint import convert_state_dict
from mvbench_plugins.deqdet.roi_heads import DEQDetRoIHead
from mvbench_plugins.ops.pyramid_sampling import flatten_pyramid

CONFIG_DIR = Path(__file__).resolve().parents[3] / 'configs' / 'deqdet'
CONFIGS = {
    'eqdet_r50_1x_coco': 'deqdet_r50_8xb2-1x_coco.py',
    'eqdet_r50_2x_coco': 'deqdet_r50_300-query_8xb2-crop-ms-2x_coco.py',
    'eqdet_r101_2x_coco': 'deqdet_r101_300-query_8xb2-crop-ms-2x_coco.py',
    'eqdet_swins_2x_coco': 'deqdet_swin-s_300-query_8xb2-crop-ms-2x_coco.py',
    'eqdet_swinl_1x_coco': 'deqdet_swin-l_300-query_8xb2-1x_coco.py',
    'eqdet_swinl_2x_coco': 'deqdet_swin-l_300-query_8xb2-crop-ms-2x_coco.py',
    'eqdet_swinl_1x_coco_900q': 'deqdet_swin-l_900-query_8xb2-1x_coco.py',
    'eqdet_swinl_2x_coco_900q': 'deqdet_swin-l_900-query_8xb2-crop-ms-2x_coco.py',
    'eqdet_swinl_1x_coco_decoder384': 'deqdet_swin-l_300-query-384-dim_8xb2-1x_coco.py',
    'eqdet_swinl_1x_coco_decoder512': 'deqdet_swin-l_300-query-512-dim_8xb2-1x_coco.py',
    'ffndet_r50_1x_coco': 'ffndet_r50_8xb2-1x_coco.py',
    'ffndet_swinl_1x_coco': 'ffndet_swin-l_300-query_8xb2-1x_coco.py',
    'ffndet_swinl_2x_coco': 'ffndet_swin-l_300-query_8xb2-2x_coco.py',
}

Outputs = dict[str, Any]


def run(case) -> tuple[Outputs, dict[str, str]]:
    """Our outputs for a case under their recorded names; nothing is left out."""
    register_all_modules()
    runner = dict(inference=_inference, train=_train, modules=_modules, masks=_masks)[case.meta['kind']]
    return runner(case), {}


def load_config(official: str) -> Config:
    """The config that corresponds to an official one; ``_coco`` may stand anywhere in the official name."""
    key = frozenset(official.split('_')) - {'coco'}
    found = [file for name, file in CONFIGS.items() if frozenset(name.split('_')) - {'coco'} == key]
    if not found:
        raise ValueError(f'no config corresponds to the official {official!r}; known: {sorted(CONFIGS)}')
    return Config.fromfile(CONFIG_DIR / found[0])


def _build(case) -> tuple[nn.Module, int]:
    """The model with the case's weights, and the number of official entries it does not need."""
    cfg = load_config(case.official_config)
    cfg.model.backbone.init_cfg = None
    if 'drop_path_rate' in cfg.model.backbone:
        cfg.model.backbone.drop_path_rate = 0.0  # recorded without stochastic depth
    model = MODELS.build(cfg.model)
    weights, dropped = convert_state_dict(case.state_dict())
    model.load_state_dict(weights, strict=True)
    return model, len(dropped)


def _images(inputs: dict[str, Tensor]) -> list[Tensor]:
    return [inputs[f'image_{i}'] for i in range(sum(name.startswith('image_') for name in inputs))]


def _inference(case) -> Outputs:
    model, _ = _build(case)
    model.eval()
    inputs = case.inputs()
    outputs: Outputs = {}
    samples = []
    for image, scale in zip(_images(inputs), inputs['scale_factor'], strict=True):
        shape = tuple(image.shape[1:])
        original = tuple(round(side / float(s)) for side, s in zip(shape, reversed(scale.tolist()), strict=True))
        samples.append(
            DetDataSample(metainfo=dict(img_shape=shape, ori_shape=original, scale_factor=tuple(scale.tolist())))
        )
    layers = model.roi_head.bbox_head
    count = 0

    def record_levels(name: str):
        return lambda module, args, out: outputs.update({f'{name}.{i}': feat for i, feat in enumerate(out)})

    def record_layer(module: nn.Module, args: tuple, out: DecoderState) -> None:
        nonlocal count
        if count == 0:
            state = args[1]
            outputs.update({'init.bbox': state.box, 'init.content': state.content, 'init.position': state.position})
        for field, name in (('position',) * 2, ('content',) * 2, ('logits',) * 2, ('box', 'bbox')):
            outputs[f'layer{count:02d}.{name}'] = getattr(out, field)
        count += 1

    model.backbone.register_forward_hook(record_levels('backbone'))
    model.neck.register_forward_hook(record_levels('neck'))
    for layer in layers:
        layer.register_forward_hook(record_layer)
    with torch.no_grad():
        data = model.data_preprocessor(dict(inputs=_images(inputs), data_samples=samples))
        outputs['preprocessed'] = data['inputs']
        results = model(**data, mode='predict')
    for i, result in enumerate(results):
        found = result.pred_instances
        order = found.scores.argsort(descending=True)
        outputs[f'det.{i}.scores'] = found.scores[order]
        outputs[f'det.{i}.bboxes_top20'] = found.bboxes[order[:20]]
        outputs[f'det.{i}.labels_top20'] = found.labels[order[:20]]
    return outputs


def _train(case) -> Outputs:
    model, num_dropped = _build(case)
    model.train()
    inputs = case.inputs()
    images = _images(inputs)
    samples = []
    for i, image in enumerate(images):
        sample = DetDataSample(metainfo=dict(img_shape=tuple(image.shape[1:])))
        sample.gt_instances = InstanceData(bboxes=inputs[f'gt_bboxes_{i}'], labels=inputs[f'gt_labels_{i}'])
        samples.append(sample)
    head = model.roi_head
    states: list[DecoderState] = []
    matches: list[Tensor] = []
    for assigner in {id(a): a for a in head.bbox_assigner}.values():
        _record_results(assigner, 'assign', lambda result: matches.append(result.gt_inds))
    state_loss = head._state_loss
    head._state_loss = lambda layer, x, state, targets: (
        states.append(state.detach()) or state_loss(layer, x, state, targets)
    )
    if isinstance(head, DEQDetRoIHead):
        draws = _Draws(inputs)
        head.perturb.uniform = draws.uniform
        head.perturb.normal = draws.normal
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
    losses = model(**data, mode='loss')
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()

    outputs: Outputs = {f'loss.{name}': value for name, value in losses.items()}
    outputs['loss.total'] = total
    prefixes = [name.removesuffix('loss_cls') for name in losses if name.endswith('loss_cls')]
    for k, (prefix, state) in enumerate(zip(prefixes, states, strict=True)):
        outputs[f'sup.{prefix}bbox'] = state.box
        outputs[f'sup.{prefix}logits'] = state.logits
        outputs[f'sup.{prefix}gt_inds'] = torch.stack(matches[k * len(images) : (k + 1) * len(images)])
    params = dict(model.named_parameters())
    for name in case.meta['outputs']:
        if name.startswith('grad.'):
            (ours,) = convert_state_dict({name.removeprefix('grad.'): torch.empty(0)}).state_dict
            outputs[name] = params[ours].grad
    gradients = [p.grad for p in params.values() if p.grad is not None]
    outputs['grad_norm'] = torch.stack([g.norm() for g in gradients]).norm()
    outputs['no_grad_count'] = torch.tensor(len(params) - len(gradients) + num_dropped)
    return outputs


class _Draws:
    """The recorded random numbers of the perturbation, in order."""

    def __init__(self, inputs: dict[str, Tensor]) -> None:
        self._uniform = iter(inputs['perturb_uniform'].flatten().tolist())
        self._content = iter(inputs.get('perturb_content_noise', ()))
        self._position = iter(inputs.get('perturb_position_noise', ()))

    def uniform(self) -> float:
        return next(self._uniform)

    def normal(self, like: Tensor) -> Tensor:
        return next(self._position if like.shape[-1] == 4 else self._content)


def _record_results(owner: Any, method: str, record: Any) -> None:
    """Let ``record`` see what a method of an object returns."""
    original = getattr(owner, method)

    def wrapper(*args, **kwargs):
        result = original(*args, **kwargs)
        record(result)
        return result

    setattr(owner, method, wrapper)


def _modules(case) -> Outputs:
    cfg = load_config(case.official_config)
    weights, _ = convert_state_dict(case.state_dict())
    inputs = case.inputs()
    head_cfg = cfg.model.roi_head.bbox_head
    layer = MODELS.build(head_cfg[-1] if isinstance(head_cfg, (list, tuple)) else head_cfg)
    layer.load_state_dict({key.split('.', 3)[3]: value for key, value in weights.items()}, strict=True)
    layer.eval()
    feats = [inputs[f'feat_{i}'] for i in range(4)]
    bbox, content = inputs['bbox'], inputs['content']
    position = encode_xyzr(bbox)
    outputs: Outputs = {
        'codec.encode': position,
        'codec.decode': decode_xyzr(position),
        'position_embedding': xyzr_embedding(position, content.shape[-1]),
    }

    def record_attention(module, args, kwargs, out):
        outputs['layer.attn_bias'] = kwargs['attn_mask']
        outputs['layer.attention'] = args[0] + out[0]  # recorded with the residual

    def record_mixing(module, args, out):
        outputs['layer.sampled'] = args[0]
        outputs['layer.mixing'] = out

    layer.attention.register_forward_hook(record_attention, with_kwargs=True)
    layer.mixing.register_forward_hook(record_mixing)
    for name, module in dict(
        attention_norm=layer.attention_norm,
        offset=layer.sampling_offset,
        mixing_norm=layer.mixing_norm,
        ffn=layer.ffn,
        ffn_norm=layer.ffn_norm,
        delta=layer.fc_reg,
    ).items():
        module.register_forward_hook(lambda _, args, out, name=name: outputs.update({f'layer.{name}': out}))
    _record_results(
        layer, '_sampling_points', lambda out: outputs.update({'layer.sample_points': out.flatten(2, 3)[:, :, None]})
    )
    with torch.no_grad():
        strides = cfg.model.roi_head.get('featmap_strides', (4, 8, 16, 32))
        pyramid = flatten_pyramid(feats, strides, layer.n_groups)
        state = layer(pyramid, DecoderState.from_boxes(bbox, content)._replace(position=position))
    outputs |= {
        f'layer.{name}': value for name, value in zip(('position', 'content', 'bbox', 'logits'), state, strict=True)
    }
    outputs |= _matching(cfg, inputs, [4 * side for side in feats[0].shape[-2:]])
    perturb = MODELS.build(_without_layers(cfg)).perturb
    outputs['perturbed.content'] = perturb.perturb_content(content, inputs['content_noise'])
    box = perturb.perturb_box(bbox, inputs['position_noise'])
    outputs |= {'perturbed.bbox': box, 'perturbed.position': encode_xyzr(box), 'perturbed.log_iof': log_iof(box)}
    return outputs


def _without_layers(cfg: Config) -> dict:
    """The config's RoI head with the smallest layers there are: the perturbation's settings are what is wanted."""
    head = cfg.model.roi_head.copy()
    head.bbox_head = [dict(type='AdaMixerHead', content_dim=8, feat_channels=4, in_points=1, out_points=1)]
    return head


def _matching(cfg: Config, inputs: dict[str, Tensor], shape: list[int]) -> Outputs:
    rcnn = cfg.model.train_cfg.rcnn
    assigner = TASK_UTILS.build((rcnn[0] if isinstance(rcnn, (list, tuple)) else rcnn).assigner)
    predictions = InstanceData(bboxes=inputs['bbox'][0], scores=inputs['logits'])
    gt = InstanceData(bboxes=inputs['gt_bboxes'], labels=inputs['gt_labels'])
    meta = dict(img_shape=tuple(shape))
    outputs = {f'cost.{type(cost).__name__}': cost(predictions, gt, meta) for cost in assigner.match_costs}
    outputs['assigned_gt_inds'] = assigner.assign(predictions, gt, img_meta=meta).gt_inds
    return outputs


def _masks(case) -> Outputs:
    inputs = case.inputs()
    weights = defaultdict(dict)
    for key, value in convert_state_dict(case.state_dict()).state_dict.items():
        head, _, name = key.partition('.')
        weights[head][name] = value
    local = MODELS.build(dict(type='WarpedEfficientDynamicMaskHead')).eval()
    local.load_state_dict(weights['local'], strict=True)
    dense = MODELS.build(dict(type='DeCoupleMLVLEHead')).eval()
    dense.load_state_dict(weights['dense'], strict=True)
    feats = [inputs[f'feat_{i}'] for i in range(4)]
    content, box = inputs['content'], inputs['bbox']
    batch, num_queries = content.shape[:2]
    samples, gt_instances = [], []
    for i in range(batch):
        inds, masks = inputs[f'pos_inds_{i}'], inputs[f'gt_masks_{i}'].numpy()
        samples.append(
            InstanceData(
                pos_inds=inds,
                pos_priors=box[i, inds],
                pos_assigned_gt_inds=inputs[f'pos_gt_inds_{i}'],
                pos_gt_labels=inputs[f'pos_labels_{i}'],
            )
        )
        gt_instances.append(InstanceData(masks=BitmapMasks(masks, *masks.shape[1:])))
    with torch.no_grad():
        logits = local(feats, list(box), content.flatten(0, 1))
        loss = local.loss(
            feats, DecoderState.from_boxes(box, content), samples, gt_instances, Config(dict(mask_size=28))
        )
        return {
            'local.mask_logits': logits.unflatten(0, (batch, num_queries)),
            'dense.mask_logits': dense(feats, content),
            'local.loss_dice': loss['loss_dice'],
        }
