"""SparseBEV: from a recorded case to our outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from adapters.sparsebev_data import run_data
from adapters.sparsebev_modules import run_modules, run_operator
from adapters.sparsebev_settings import apply_changes, fit_counts, recorded_version
from adapters.sparsebev_version import query_boxes_as_recorded, target_boxes_as_recorded
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmdet3d.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvbench_plugins.sparsebev.boxes import decode_target_boxes, encode_target_boxes
from mvbench_plugins.sparsebev.checkpoint import convert_state_dict, convert_version
from mvbench_plugins.sparsebev.denoising import Disturbance

CONFIG_DIR = Path(__file__).resolve().parents[3] / 'configs' / 'sparsebev'
CONFIGS = {
    'r50_nuimg_704x256': 'sparsebev_r50-nuimg-pre_8xb1-24e_nus-704x256-900q.py',
    'r50_nuimg_704x256_400q_36ep': 'sparsebev_r50-nuimg-pre_8xb1-36e_nus-704x256-400q.py',
    'r50_in1k_704x256': 'sparsebev_r50-in1k-pre_8xb1-36e_nus-704x256-900q.py',
    'r101_nuimg_1408x512': 'sparsebev_r101-nuimg-pre_8xb1-24e_nus-1408x512-900q.py',
    'vov99_dd3d_1600x640_trainval_future': 'sparsebev_vov99-dd3d-pre_8xb1-24e_nus-trainval-1600x640-1600q-future.py',
    'vit_eva02_1600x640_trainval_future': 'sparsebev_eva02-l-pre_8xb1-24e_nus-trainval-1600x640-1600q-future.py',
}
_BOX_DIM = 9
_CODE_WEIGHTS = 'pts_bbox_head.code_weights'

Outputs = dict[str, Any]


def run(case) -> tuple[Outputs, dict[str, str]]:
    """Our outputs for a case under their recorded names; nothing is left out."""
    register_all_modules()
    if case.kind in ('operator', 'data'):
        apply_changes(case)
        return dict(operator=run_operator, data=run_data)[case.kind](case), {}
    if case.official_config not in CONFIGS:
        raise ValueError(f'no config corresponds to the official {case.official_config!r}; known: {sorted(CONFIGS)}')
    cfg = Config.fromfile(CONFIG_DIR / CONFIGS[case.official_config])
    apply_changes(case, cfg)
    return dict(inference=_infer, training=_train, modules=run_modules)[case.kind](case, cfg), {}


def _build(case, cfg: Config) -> nn.Module:
    """The model with the case's weights, without anything random; its counts are those of the case."""
    fit_counts(case, cfg.model)
    cfg.model.pts_bbox_head.dropout = 0.0
    cfg.model.img_backbone.init_cfg = None
    if 'drop_path_rate' in cfg.model.img_backbone:
        cfg.model.img_backbone.drop_path_rate = 0.0
    cfg.model.data_preprocessor.update(color_augmentation=False, grid_mask_prob=0.0)
    cfg.model.test_cfg.frames_at_once = None  # recorded are all frames together
    weights, dropped = convert_state_dict(case.state_dict())
    if _CODE_WEIGHTS in dropped:  # ours is a setting, not a weight
        cfg.model.pts_bbox_head.code_weights = dropped[_CODE_WEIGHTS].tolist()
    model = MODELS.build(cfg.model)
    model.load_state_dict(convert_version(weights, recorded_version(case)), strict=True)
    return model


def _batch(inputs: dict[str, Tensor], model: nn.Module, training: bool) -> dict:
    """Preprocessed images, and data samples with the geometry and, in training, the boxes."""
    samples = []
    for b, (lidar2img, timestamps) in enumerate(zip(inputs['lidar2img'], inputs['img_timestamp'], strict=True)):
        sample = Det3DDataSample(metainfo=dict(lidar2img=lidar2img.numpy(), img_timestamp=timestamps.numpy()))
        if training:  # a sample without any box need not have been recorded
            boxes = inputs.get(f'gt_boxes_{b}', torch.zeros(0, _BOX_DIM))
            sample.gt_instances_3d = InstanceData(
                bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=_BOX_DIM),
                labels_3d=inputs.get(f'gt_labels_{b}', torch.zeros(0, dtype=torch.long)),
            )
        samples.append(sample)
    return model.data_preprocessor(dict(inputs=dict(img=list(inputs['img'])), data_samples=samples), training)


def _infer(case, cfg: Config) -> Outputs:
    model = _build(case, cfg).eval()
    version = recorded_version(case)
    batch = _batch(case.inputs(), model, training=False)
    outputs: Outputs = {'input_normalised': batch['inputs']['imgs'].flatten(0, 1)}
    for name, part in (('backbone', model.img_backbone), ('neck', model.img_neck)):
        if part is not None:
            part.register_forward_hook(
                lambda module, args, out, name=name: outputs.update({f'{name}_{i}': x for i, x in enumerate(out)})
            )
    _record_decoder(model.pts_bbox_head.decoder.layer, version, outputs)
    heads = []
    model.pts_bbox_head.register_forward_hook(lambda module, args, out: heads.append(out))
    with torch.no_grad():
        samples = model(**batch, mode='predict')
    outputs['all_cls_scores'] = heads[0].logits
    outputs['all_bbox_preds'] = target_boxes_as_recorded(heads[0].boxes, version)
    # The published code turns older boxes behind their decoding, in the detections.
    outputs['decoded_boxes'] = decode_target_boxes(outputs['all_bbox_preds'][-1])
    for b, sample in enumerate(samples):
        outputs[f'det_scores_{b}'] = sample.pred_instances_3d.scores_3d
    return outputs


def _record_decoder(layer: nn.Module, version: str | None, outputs: Outputs) -> None:
    """What the parts of the layer give in the first stage, and what the layer gives in all."""
    stages: list[int] = []

    def record(part: nn.Module, name: str) -> None:
        def given(module: nn.Module, args: tuple, out: Tensor) -> None:  # what a hook returns would take its place
            outputs.setdefault(f'stage0_{name}', out)

        part.register_forward_hook(given)

    def sampled(module: nn.Module, args: tuple, out: Tensor) -> None:
        boxes, feats, _, frames = args
        outputs.setdefault('stage0_sampling_points', module.points(boxes, feats, frames).permute(0, 1, 3, 2, 4, 5))
        outputs.setdefault('stage0_scale_weights', module.level_weights(feats))

    def refined(module: nn.Module, args: tuple, out) -> None:
        prefix = f'stage{len(stages)}_'
        stages.append(1)
        outputs[f'{prefix}query_feat'], outputs[f'{prefix}cls_score'], boxes = out
        outputs[f'{prefix}bbox_pred'] = query_boxes_as_recorded(boxes, version)

    record(layer.position_encoder, 'query_pos')
    record(layer.self_attn.gen_tau, 'tau')
    record(layer.self_attn, 'self_attn')
    record(layer.sampling, 'sampled_feat')
    record(layer.mixing, 'mixed')
    record(layer.ffn, 'ffn')
    layer.sampling.register_forward_hook(sampled)
    layer.register_forward_hook(refined)


def _train(case, cfg: Config) -> Outputs:
    model = _build(case, cfg).train()
    head, inputs = model.pts_bbox_head, case.inputs()
    batch = _batch(inputs, model, training=True)
    if 'dn_box_noise' in inputs:  # nothing is drawn for a batch without any box
        drawn = Disturbance(inputs['dn_box_noise'][:, :3], inputs['dn_label_prob'], inputs['dn_new_label'])
        head.denoising.draw = lambda boxes, num_classes: drawn
    heads, outputs = [], {}

    def entered(module: nn.Module, args: tuple) -> None:
        outputs['dn_query_bbox'], outputs['dn_query_feat'], *_, outputs['dn_attn_mask'] = args

    head.decoder.register_forward_pre_hook(entered)
    head.register_forward_hook(lambda module, args, out: heads.append(out))
    losses = model(**batch, mode='loss')
    outputs.update(losses, loss_total=sum(losses.values()))
    outputs['loss_total'].backward()

    last = [x[-1:, :, -head.num_query :] for x in heads[0]]
    outputs['assigned_last'] = torch.zeros(last[0].shape[1:3], dtype=torch.long)  # 0 is background, i + 1 is box i
    for b, (boxes, labels) in enumerate(map(head._annotations, batch['data_samples'])):
        of_sample = [x[:, b] for x in last]
        queries, indices = head.assigner.assign(*of_sample, labels, encode_target_boxes(boxes), head.code_weights)
        outputs['assigned_last'][b, queries[0]] = indices[0] + 1
    # By converting numbered entries: rules look at all names together.
    names = list(case.meta['state_dict'])
    ours = convert_state_dict({name: torch.tensor(i) for i, name in enumerate(names)}).state_dict
    params = {names[number]: name for name, number in ours.items()}
    for name in case.meta['outputs']:
        if name.startswith('grad:'):
            outputs[name] = model.get_parameter(params[name.removeprefix('grad:')]).grad
    return outputs
