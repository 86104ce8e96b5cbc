"""Numbers of the published implementation, at their recorded tolerance, and what other recorded cases may say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from adapters import sparsebev, sparsebev_settings
from cases import Case, load_case
from mmdet3d.registry import MODELS
from mmengine.config import Config
from run import run_case
from sparsebev_batches import rig

from mvbench_plugins.sparsebev import sampling
from mvbench_plugins.sparsebev.boxes import SIN

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'sparsebev'
CONFIG = 'r50_nuimg_704x256'
SIZE = (32, 64)


@pytest.mark.parametrize('name', ['modules', 'op_msmv_sampling', 'inference_r50_704x256', 'train_r50_704x256'])
def test_recorded_case(name):
    report, passed = run_case(load_case(CASES / name))
    assert passed and ' 0 left out' in report, report


def test_a_wrong_number_is_noticed():
    """The comparison itself can fail: one input changed must show in the table."""
    case = load_case(CASES / 'modules')
    case.meta['inputs']['match_cls_score']['mean'] += 0.1
    report, passed = run_case(case)
    failed = [row.split()[0] for row in report.splitlines() if 'FAILED' in row]
    assert not passed and 'match_cost' in failed and 'sample_points' not in failed


def make_case(
    kind: str, boxes: Sequence[int | None] = (), num_frames: int = 2, dn_groups: int = 10, model: dict = {}, **meta: Any
) -> Case:
    """A small case with nothing recorded, as the recorder writes it.

    Args:
        kind: of the case.
        boxes: number of boxes of each sample of a training step; None: there are no entries of boxes.
        num_frames: frames.
        dn_groups: groups of disturbed boxes.
        model: settings of the model below ``pts_bbox_head``.
        meta: further entries of the case.
    """
    cfg = Config.fromfile(sparsebev.CONFIG_DIR / sparsebev.CONFIGS[CONFIG]).model
    cfg.img_backbone.update(depth=18, init_cfg=None)
    cfg.pts_bbox_head.update(dict(num_query=16, num_frames=num_frames, in_channels=64) | model)
    cfg.img_neck.update(
        in_channels=[64, 128, 256, 512],
        out_channels=cfg.pts_bbox_head.in_channels,
        num_outs=cfg.pts_bbox_head.num_levels,
    )
    with torch.device('meta'):
        weights = MODELS.build(cfg).state_dict()
    batch = len(boxes) or 1
    lidar2img = np.tile(np.concatenate([rig(SIZE)] * num_frames), (batch, 1, 1, 1))
    stamps = np.tile(1.6e9 - 0.5 * np.repeat(np.arange(num_frames), 6), (batch, 1))
    inputs = dict(
        img=dict(shape=[batch, num_frames * 6, 3, *SIZE], dtype='uint8', low=0, high=256),
        lidar2img=dict(shape=list(lidar2img.shape), dtype='float32', value=lidar2img.ravel().tolist()),
        img_timestamp=dict(shape=list(stamps.shape), dtype='float64', value=stamps.ravel().tolist()),
    )
    for b, count in enumerate(boxes):
        if count is not None:
            inputs[f'gt_boxes_{b}'] = dict(shape=[count, 9], low=0.5, high=3.0)
            inputs[f'gt_labels_{b}'] = dict(shape=[count], dtype='int64', low=0, high=cfg.pts_bbox_head.num_classes)
    if rows := dn_groups * sum(count or 0 for count in boxes):
        inputs |= dict(
            dn_box_noise=dict(shape=[rows, 9], low=0.0, high=1.0),
            dn_label_prob=dict(shape=[rows], low=0.0, high=1.0),
            dn_new_label=dict(shape=[rows], dtype='int64', low=0, high=cfg.pts_bbox_head.num_classes),
        )
    layers = cfg.pts_bbox_head.num_decoder_layers
    if kind == 'training':
        outputs = dict.fromkeys(['loss_cls', *(f'd{i}.loss_cls' for i in range(layers - 1))], dict(shape=[]))
    else:
        outputs = dict(all_cls_scores=dict(shape=[layers, batch, 16, cfg.pts_bbox_head.num_classes]))
    return Case(
        Path('made/case'),
        dict(
            system='SparseBEV',
            kind=kind,
            reference=dict(config=f'configs/{CONFIG}.py'),
            seed=0,
            state_dict={_official(name): _recipe(name, value) for name, value in weights.items()},
            inputs=inputs,
            outputs=outputs,
            **{**meta, 'changes': {'img_backbone.depth': 18, **meta.get('changes', {})}},
        ),
        {},
    )


def _official(name: str) -> str:
    name = name.replace('pts_bbox_head.decoder.layer.', 'pts_bbox_head.transformer.decoder.decoder_layer.')
    return name.replace('.self_attn.attention.', '.self_attn.attention.attn.')


def _recipe(name: str, value: torch.Tensor) -> dict:
    if not value.is_floating_point():
        return dict(shape=list(value.shape), dtype='int64', low=0, high=1)
    if re.search(r'(bn\d|downsample\.1)\.(weight|running_var)|code_weights', name):
        return dict(shape=list(value.shape), mean=1.0, std=0.01, positive=True)
    # Boxes within the range, whose sizes and angles differ.
    return dict(shape=list(value.shape), mean=0.5 if 'init_query_bbox' in name else 0.0, std=0.1)


def outputs_of(case: Case) -> dict[str, torch.Tensor]:
    return sparsebev.run(case)[0]


def test_older_boxes_come_out_as_recorded():
    """The published code turns the points of such a file the other way round, and nothing else before the end."""

    def place_points(boxes, offsets, pc_range):
        boxes = boxes.clone()
        boxes[..., SIN] *= -1
        return original(boxes, offsets, pc_range)

    original = sampling.place_points
    few = dict(num_decoder_layers=2)
    today = outputs_of(make_case('inference', model=few))
    with mock.patch.object(sampling, 'place_points', place_points):
        want = outputs_of(make_case('inference', model=few))
    got = outputs_of(make_case('inference', model=few, version='v0.17.1'))
    assert not torch.allclose(today['stage0_sampling_points'], want['stage0_sampling_points'], atol=0.1)
    assert got.keys() == want.keys() and {'decoded_boxes', 'all_bbox_preds', 'stage1_bbox_pred'} <= got.keys()
    for name, value in want.items():
        assert torch.allclose(got[name], value, rtol=1e-3, atol=1e-3), name


@pytest.mark.parametrize('name', ['version', 'VERSION', 'VERSION.name', 'model.version'])
def test_version_among_changes(name):
    assert sparsebev_settings.recorded_version(make_case('inference', changes={name: 'v0.17.1'})) == 'v0.17.1'
    assert sparsebev_settings.recorded_version(make_case('inference')) is None


def test_versions_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match=r"made/case: .*found 'v0.18'.*expected none, 'v1.0.0'.*'v0.17.1'"):
        outputs_of(make_case('inference', version='v0.18'))
    with pytest.raises(ValueError, match=r"training step of version 'v0.17.1', expected an inference"):
        outputs_of(make_case('training', boxes=[1], changes={'VERSION.name': 'v0.17.1'}))


def test_changes_are_applied():
    cfg = Config.fromfile(sparsebev.CONFIG_DIR / sparsebev.CONFIGS['vit_eva02_1600x640_trainval_future'])
    assert cfg.model.num_grad_frames == 4
    changes = {'model': {'stop_prev_grad': 2, 'pts_bbox_head': {'bbox_coder': {'max_num': 7}}}, 'num_query': 400}
    sparsebev_settings.apply_changes(make_case('training', boxes=[1], changes=changes), cfg)
    assert (cfg.model.num_grad_frames, cfg.model.pts_bbox_head.bbox_coder.max_num) == (2, 7)
    sparsebev_settings.apply_changes(make_case('training', boxes=[1], changes={'model.stop_prev_grad': 0}), cfg)
    assert cfg.model.num_grad_frames is None
    wider = [-80.0, -80.0, -5.0, 80.0, 80.0, 3.0]
    sparsebev_settings.apply_changes(make_case('inference', pc_range=wider), cfg)
    assert cfg.model.pts_bbox_head.pc_range == cfg.model.pts_bbox_head.bbox_coder.pc_range == wider


@pytest.mark.parametrize('kind', ['inference', 'data', 'operator'])
def test_unknown_changes_are_refused(kind):
    case = make_case('inference', changes={'model': {'pts_bbox_head': {'temperature': 3}}})
    case.meta['kind'] = kind
    with pytest.raises(ValueError, match=r"made/case: \"changes\": found 'model.pts_bbox_head.temperature' \(3\)"):
        outputs_of(case)


def test_counts_are_those_of_the_case():
    counts = dict(num_decoder_layers=2, num_classes=7, num_points=3, num_levels=5, num_query=25, in_channels=32)
    outputs = outputs_of(make_case('inference', num_frames=3, model=counts))
    assert outputs['all_cls_scores'].shape == (2, 1, 25, 7)
    assert outputs['stage0_sampling_points'].shape == (1, 25, 3, 4, 3, 3)
    assert outputs['stage0_scale_weights'].shape[-1] == 5

    outputs = outputs_of(
        make_case('training', boxes=[2, 1], num_frames=1, dn_groups=4, model=dict(num_decoder_layers=3))
    )
    assert {name for name in outputs if name.endswith('loss_cls_dn')} == {
        'd0.loss_cls_dn',
        'd1.loss_cls_dn',
        'loss_cls_dn',
    }
    assert outputs['dn_query_bbox'].shape == (2, 4 * 2 + 16, 10)


def test_training_without_denoising():
    outputs = outputs_of(make_case('training', boxes=[2], num_frames=1, dn_groups=0, model=dict(num_decoder_layers=2)))
    assert outputs['dn_query_bbox'].shape == (1, 16, 10)
    assert not any(name.endswith('_dn') for name in outputs)


def test_samples_without_boxes_need_no_entries():
    small = dict(num_frames=1, model=dict(num_decoder_layers=2))
    left_out, empty = (outputs_of(make_case('training', boxes=[2, count], **small)) for count in (None, 0))
    assert left_out['loss_total'] == empty['loss_total'] and left_out['assigned_last'].sum() == 1 + 2

    outputs = outputs_of(make_case('training', boxes=[None, None], **small))
    assert outputs['assigned_last'].sum() == 0 and outputs['dn_query_bbox'].shape == (2, 16, 10)
    # The published code has no terms of disturbed boxes then: ours must add nothing.
    torch.testing.assert_close(outputs['loss_total'], outputs['loss_cls'] + outputs['d0.loss_cls'])


def test_geometry_of_other_counts_and_sizes():
    """Fewer frames are the first of the recorded ones; a lower crop keeps the bottom of the recorded one."""
    case = load_case(CASES / 'data_geometry')
    recorded = case.arrays
    case.meta['outputs']['chosen']['shape'] = [4 * 6]
    for name in ('test_images', 'train_images'):
        case.meta['outputs'][name]['shape'] = [6, 20, 70, 3]
    outputs = outputs_of(case)
    assert outputs['chosen'].tolist() == recorded['output:chosen'][: 4 * 6].tolist()
    np.testing.assert_allclose(
        outputs['lidar2img'], recorded['output:lidar2img'].reshape(48, 4, 4)[: 4 * 6], rtol=1e-4, atol=5e-3
    )
    images = outputs_of(load_case(CASES / 'data_geometry'))['train_images']
    assert outputs['test_images'].shape == (6, 20, 70, 3)
    np.testing.assert_array_equal(outputs['train_images'], images[:, -20:])


def test_geometry_takes_the_size_of_its_images():
    case = load_case(CASES / 'data_geometry')
    case.meta['inputs']['image']['shape'] = [6, 180, 320, 3]
    matrix = outputs_of(case)['test_matrix']
    np.testing.assert_allclose(np.diag(matrix), [70 / 320, 70 / 320, 1, 1])


def test_unknown_inputs_of_geometry_are_refused():
    case = load_case(CASES / 'data_geometry')
    case.meta['inputs']['future_timestamp_us'] = dict(shape=[1], value=[0], dtype='int64')
    with pytest.raises(ValueError, match=r"data_geometry: \"inputs\": found \['future_timestamp_us'\]"):
        outputs_of(case)


def test_modules_of_another_image_size():
    """Images of half the size show the same."""
    case = load_case(CASES / 'modules')
    lidar2img = np.array(case.meta['inputs']['s4d_lidar2img']['value']).reshape(-1, 4, 4)
    lidar2img[:, :2] /= 2
    case.meta['inputs']['s4d_lidar2img']['value'] = lidar2img.ravel().tolist()
    for level in range(3):
        recipe = case.meta['inputs'][f's4d_feat_{level}']
        recipe['shape'] = [*recipe['shape'][:3], *(side // 2 for side in recipe['shape'][3:])]
    views = outputs_of(case)['s4d_view'].flatten()
    if 'index:s4d_view' in case.arrays:
        views = views[torch.from_numpy(case.arrays['index:s4d_view'])]
    assert (views.numpy() == case.arrays['output:s4d_view'].ravel()).mean() > 0.999
