"""Every config builds the published model, its recipe and its data."""

from __future__ import annotations

import math
import re

import pytest
import torch
import yaml
from mmdet3d.registry import DATASETS, METRICS, MODELS, PARAM_SCHEDULERS, TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from surround_batches import make_sample
from torch import nn

R50 = 'sparsebev_r50-nuimg-pre_8xb1-24e_nus-704x256-900q'
R50_400 = 'sparsebev_r50-nuimg-pre_8xb1-36e_nus-704x256-400q'
R50_IN1K = 'sparsebev_r50-in1k-pre_8xb1-36e_nus-704x256-900q'
R101 = 'sparsebev_r101-nuimg-pre_8xb1-24e_nus-1408x512-900q'
VOV99 = 'sparsebev_vov99-dd3d-pre_8xb1-24e_nus-trainval-1600x640-1600q-future'
EVA02 = 'sparsebev_eva02-l-pre_8xb1-24e_nus-trainval-1600x640-1600q-future'
RELEASED = (R50, R50_400, R50_IN1K, R101, VOV99, EVA02)
TOYS = ('sparsebev_r18_toy', 'sparsebev_r18_1-frame_toy')
MOTION_TOYS = ('sparsebev_r18_motion_toy', 'sparsebev_r18_1-frame-motion_toy')
CLASSES = 'car truck construction_vehicle bus trailer barrier motorcycle bicycle pedestrian traffic_cone'.split()


def _millions(module: nn.Module, trainable: bool = False) -> float:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable) / 1e6


def test_all_configs_are_covered(models):
    assert set(models) == {*RELEASED, *TOYS, *MOTION_TOYS}


@pytest.mark.parametrize(
    ('name', 'total', 'backbone', 'head'),
    [
        (R50, 44.57, 23.51, 17.72),
        (R50_400, 44.57, None, None),
        (R50_IN1K, 44.57, 23.51, 17.72),
        (R101, 63.57, None, None),
        (VOV99, 93.95, 69.52, 21.41),
    ],
)
def test_parameters_of_the_official_models(models, name, total, backbone, head):
    """Section 1, in millions."""
    model = models[name][1]
    assert _millions(model) == pytest.approx(total, abs=0.006)
    if backbone:
        assert _millions(model.img_backbone) == pytest.approx(backbone, abs=0.006)
        assert _millions(model.pts_bbox_head) == pytest.approx(head, abs=0.006)


def test_frozen_parts(models):
    assert _millions(models[R50][1], trainable=True) == pytest.approx(44.34, abs=0.006)
    frozen = {
        name: {
            re.match(r'((blocks|layer)\.?\d+|[a-z_]+\d?)', key)[1]
            for key, p in backbone.named_parameters()
            if not p.requires_grad
        }
        for name, backbone in ((name, models[name][1].img_backbone) for name in RELEASED)
    }
    for name in (R50, R50_400, R50_IN1K, R101):
        assert frozen[name] == {'conv1', 'bn1', 'layer1'} and models[name][1].img_backbone.norm_eval, name
    assert frozen[VOV99] == {'stem', 'stage2'}
    assert frozen[EVA02] == {'patch_embed', 'pos_embed', 'blocks.0', 'blocks.1', 'blocks.2'}


def test_metafile_names_every_released_config(models, config_dir):
    listed = {
        entry['Name']: entry for entry in yaml.safe_load((config_dir / 'sparsebev/metafile.yml').read_text())['Models']
    }
    assert set(listed) == set(RELEASED)
    for name, entry in listed.items():
        cfg, model = models[name]
        assert entry['Config'] == f'configs/sparsebev/{name}.py'
        assert entry['Metadata']['Epochs'] == cfg.train_cfg.max_epochs, name
        assert entry['Metadata']['Parameters'] == sum(p.numel() for p in model.parameters()), name


def test_decoder(models):
    """The table of section 1: queries, frames, levels, points."""
    wanted = {
        R50: (900, 8, 4, 4), R50_400: (400, 8, 4, 4), R50_IN1K: (900, 8, 4, 4), R101: (900, 8, 5, 4),
        VOV99: (1600, 15, 5, 4), EVA02: (1600, 15, 5, 8),
    }  # fmt: skip
    for name, (queries, frames, levels, points) in wanted.items():
        cfg, model = models[name]
        head, weights = cfg.model.pts_bbox_head, model.pts_bbox_head.state_dict()
        assert (head.num_query, head.num_frames, head.num_levels, head.num_points) == wanted[name], name
        shapes = {
            'init_query_bbox.weight': (queries, 10),
            'label_enc.weight': (11, 255),
            'decoder.layer.self_attn.gen_tau.weight': (8, 256),
            'decoder.layer.sampling.sampling_offset.weight': (4 * points * 3, 256),
            'decoder.layer.sampling.scale_weights.weight': (4 * points * levels, 256),
            'decoder.layer.mixing.parameter_generator.weight': (4 * (64 * 64 + 128 * frames * points), 256),
            'decoder.layer.mixing.out_proj.weight': (256, 4 * 128 * 64),
            'decoder.layer.ffn.layers.0.0.weight': (512, 256),
            'decoder.layer.cls_branch.6.weight': (10, 256),
            'decoder.layer.reg_branch.4.weight': (10, 256),
        }
        assert {key: tuple(weights[key].shape) for key in shapes} == shapes, name
        assert (head.num_decoder_layers, head.num_groups, head.dropout, head.with_cp) == (6, 4, 0.1, True)
        assert head.level_weight_order == 'released', name
        assert model.img_neck is None if name == EVA02 else model.img_neck.num_outs == levels, name
        assert cfg.model.num_grad_frames == cfg.model.data_preprocessor.get('grid_mask_frames'), name
        assert cfg.model.num_grad_frames == (4 if name == EVA02 else None), name


def test_losses_matching_and_decoding(models):
    """Sections 2.2, 3.1 to 3.3 and 4."""
    for name in RELEASED:
        cfg = models[name][0].model
        head = cfg.pts_bbox_head
        assert head.pc_range == head.bbox_coder.pc_range == [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0], name
        assert head.bbox_coder.post_center_range == [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0], name
        assert (head.bbox_coder.max_num, head.bbox_coder.score_threshold) == (300, 0.05)
        assert head.code_weights == [2.0] * 2 + [1.0] * 8
        assert head.denoising == dict(num_groups=10, center_noise_scale=0.5, label_noise_ratio=0.5)
        assert (head.loss_cls.loss_weight, head.loss_cls.alpha, head.loss_cls.gamma) == (2.0, 0.25, 2.0)
        assert head.loss_cls.use_sigmoid and head.loss_bbox.loss_weight == 0.25
        assigner = cfg.train_cfg.assigner
        assert (assigner.cls_cost.weight, assigner.reg_weight) == (2.0, 0.25), name


def test_optimizer_recipe(models):
    """Section 6: one rate and one decay for all, but for sampling offsets and the backbone."""
    slow = {R50: 0.1, R50_400: 0.1, R50_IN1K: 0.4, R101: 0.2, VOV99: 0.1, EVA02: 0.1}
    for name in RELEASED:
        cfg, model = models[name]
        wrapper = cfg.optim_wrapper
        assert (wrapper.type, wrapper.loss_scale) == ('AmpOptimWrapper', 512.0), name
        assert wrapper.clip_grad == dict(max_norm=35, norm_type=2)
        # The wrapper of half precision cannot be built without a GPU; the groups are the same.
        plain = {key: value for key, value in wrapper.items() if key != 'loss_scale'}
        optimizer = build_optim_wrapper(model, {**plain, 'type': 'OptimWrapper'}).optimizer
        groups = {id(p): group for group in optimizer.param_groups for p in group['params']}
        trained = [(key, p) for key, p in model.named_parameters() if p.requires_grad]
        assert len(groups) == len(trained), name
        for key, param in trained:
            factor = slow[name] if key.startswith('img_backbone.') else 0.1 if 'sampling_offset' in key else 1.0
            got = groups[id(param)]['lr'], groups[id(param)]['weight_decay']
            assert got == pytest.approx((2e-4 * factor, 0.01)), (name, key)
        assert type(optimizer) is torch.optim.AdamW and optimizer.defaults['betas'] == (0.9, 0.999)
        assert 'pts_bbox_head.code_weights' not in dict(trained)


def test_schedule(models):
    """Simulated with 300 iterations per epoch, against the formula of the official runner."""
    length = 300
    for name in RELEASED:
        cfg = models[name][0]
        epochs = cfg.train_cfg.max_epochs
        assert epochs == int(re.search(r'_8xb1-(\d+)e_', name)[1]) == (36 if name in (R50_400, R50_IN1K) else 24)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedulers = [PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer)) for s in cfg.param_scheduler]
        rates = []
        for _ in range(epochs):
            for _ in range(length):
                rates.append(optimizer.param_groups[0]['lr'])
                optimizer.step()
                for scheduler in schedulers:
                    if not scheduler.by_epoch:
                        scheduler.step()
            for scheduler in schedulers:
                if scheduler.by_epoch:
                    scheduler.step()
        for i in (0, 1, 250, 499, 500, 501, length * epochs // 2, length * epochs - 1):
            regular = 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * (i // length) / epochs)) / 2
            warm = 1 - (1 - min(i, 500) / 500) * (1 - 1 / 3)
            assert rates[i] == pytest.approx(regular * warm, rel=2e-5), (name, i)


def test_batches_and_pretrained_files(models):
    files = {}
    for name in RELEASED:
        cfg = models[name][0]
        assert cfg.train_dataloader.batch_size == cfg.val_dataloader.batch_size == 1
        assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=8) and cfg.randomness.seed == 0
        assert cfg.default_hooks.checkpoint.max_keep_ckpts == 2
        files[name] = cfg.model.img_backbone.init_cfg
        assert files[name].type == 'Pretrained'
    prefixes = {name: init_cfg.get('prefix') for name, init_cfg in files.items()}
    assert prefixes == {
        R50: 'backbone.', R50_400: 'backbone.', R50_IN1K: None, R101: 'backbone.', VOV99: 'img_backbone.', EVA02: None,
    }  # fmt: skip
    assert files[R50] == files[R50_400]
    for name, word in ((R50, 'r50_fpn_coco-20e_20e_nuim'), (R101, 'r101_fpn_1x_nuim'), (R50_IN1K, 'torchvision')):
        assert word in files[name].checkpoint, name


@pytest.mark.parametrize(
    ('name', 'size', 'ratios', 'frames', 'order'),
    [
        (R50, (256, 704), (0.38, 0.55), 8, 'past'),
        (R50_400, (256, 704), (0.38, 0.55), 8, 'past'),
        (R50_IN1K, (256, 704), (0.38, 0.55), 8, 'past'),
        (R101, (512, 1408), (0.76, 1.10), 8, 'past'),
        (VOV99, (640, 1600), (0.94, 1.25), 15, 'future'),
        (EVA02, (640, 1600), (0.94, 1.25), 15, 'interleaved'),
    ],
)
def test_pipelines(models, name, size, ratios, frames, order):
    """Section 5."""
    cfg = models[name][0]
    train = cfg.train_dataloader.dataset
    parts = train.get('datasets', [train])
    kinds = ['LoadMultiFrameImages', 'LoadAnnotations3D', 'ObjectRangeFilter', 'ObjectNameFilter']
    kinds += ['ResizeCropFlipImages', 'RotateScaleScene', 'Pack3DDetInputs']
    for part in parts:
        assert [step.type for step in part.pipeline] == kinds
        load, _, in_range, named, resize, scene, _ = (TRANSFORMS.build(step) for step in part.pipeline)
        assert (load.num_frames, load.order, load.test_mode) == (frames, order, False)
        assert (resize.crop_size, tuple(resize.ratio_range)) == (size, ratios)
        assert tuple(scene.rot_range) == (-0.3925, 0.3925) and tuple(scene.scale_ratio_range) == (0.95, 1.05)
        assert in_range.pcd_range.tolist() == pytest.approx([-51.2, -51.2, -5, 51.2, 51.2, 3])
        assert list(named.classes) == CLASSES
    for split in ('val', 'test'):
        pipeline = cfg[f'{split}_dataloader'].dataset.pipeline
        assert [step.type for step in pipeline] == [kinds[0], kinds[4], kinds[6]]
        load, resize = TRANSFORMS.build(pipeline[0]), TRANSFORMS.build(pipeline[1])
        assert (load.num_frames, load.order, load.test_mode, load.key_frame_only) == (frames, order, True, False)
        assert (resize.crop_size, resize.ratio_range) == (size, None)


def test_normalisation(models):
    for name in RELEASED:
        preprocessor = models[name][0].model.data_preprocessor
        rgb = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
        wanted = [values[::-1] for values in rgb] if name == VOV99 else list(rgb)
        assert [list(preprocessor.mean), list(preprocessor.std)] == wanted, name
        assert preprocessor.bgr_to_rgb == (name != VOV99), name
        assert (
            preprocessor.color_augmentation
            and preprocessor.grid_mask_prob == 0.7
            and preprocessor.pad_size_divisor == 32
        )


def test_data_sets_and_metric(models):
    for name, (cfg, _) in models.items():
        train = cfg.train_dataloader.dataset
        parts = train.get('datasets', [train])
        splits = ['train', 'val'] if name in (VOV99, EVA02) else ['train']
        assert [part.ann_file for part in parts] == [f'nuscenes_multiview_infos_{split}.pkl' for split in splits], name
        for part in (*parts, cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
            assert DATASETS.get(part.type) is not None and list(part.metainfo.classes) == CLASSES, name
        for split in ('val', 'test'):
            dataset, metric = cfg[f'{split}_dataloader'].dataset, cfg[f'{split}_evaluator']
            assert dataset.test_mode and not cfg[f'{split}_dataloader'].sampler.shuffle, name
            assert METRICS.get(metric.type) is not None
            assert metric.ann_file == dataset.data_root + dataset.ann_file, name


def test_online_is_an_option(models, config_dir):
    """As the README gives it."""
    cfg = Config.fromfile(config_dir / 'sparsebev' / f'{R50}.py')
    assert not cfg.model.test_cfg.online
    readme = (config_dir / 'sparsebev' / 'README.md').read_text()
    options = {'model.test_cfg.online': True, 'test_dataloader.dataset.pipeline.0.key_frame_only': True}
    assert all(f'{key}={value}' in readme for key, value in options.items())
    cfg.merge_from_dict(options)
    assert TRANSFORMS.build(cfg.test_dataloader.dataset.pipeline[0]).key_frame_only
    with torch.device('meta'):
        assert MODELS.build(cfg.model).memory is not None


def test_large_images_of_many_frames_go_through_the_backbone_in_parts(models):
    at_once = {name: models[name][1].frames_at_once for name in RELEASED}
    assert at_once == {R50: None, R50_400: None, R50_IN1K: None, R101: None, VOV99: 1, EVA02: 1}


@pytest.mark.parametrize('names', [TOYS, MOTION_TOYS], ids=['first stage', 'second stage'])
def test_toys_differ_by_their_frames_only(models, names):
    dumps = [models[name][0].to_dict() for name in names]
    starts = [cfg.pop('load_from') for cfg in dumps]
    assert starts == ([None] * 2 if names is TOYS else [f'work_dirs/{name}/epoch_16.pth' for name in TOYS])
    assert [cfg.pop('num_frames') for cfg in dumps] == [2, 1]
    for cfg, frames in zip(dumps, (2, 1), strict=True):
        head = cfg['model']['pts_bbox_head']
        assert head.pop('num_frames') == frames and frames * head.pop('num_points') == 16
        for name in ('train', 'val', 'test'):
            assert cfg[f'{name}_dataloader']['dataset']['pipeline'][0].pop('num_frames') == frames
        for name in ('train', 'test'):
            cfg[f'{name}_pipeline'][0].pop('num_frames')
    assert dumps[0] == dumps[1]


@pytest.mark.parametrize('name', TOYS + MOTION_TOYS)
def test_toy_trains_and_predicts(models, name):
    """A step on a random sample of the toy's size: every part learns, and predictions come out."""
    cfg = models[name][0]
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    with torch.no_grad():
        for param in model.parameters():  # off the start, where residual branches are closed
            param += 0.01 * torch.randn_like(param)
    batch = make_sample(cfg.num_frames, cfg.train_pipeline[4].crop_size)
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total) and len(losses) == 3 * (4 if cfg.model.pts_bbox_head.denoising else 2)
    idle = {key for key, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    assert not idle
    model.eval()
    with torch.no_grad():
        (result,) = model.val_step(make_sample(cfg.num_frames, cfg.test_pipeline[1].crop_size))
    assert result.pred_instances_3d.bboxes_3d.tensor.shape[1] == 9
