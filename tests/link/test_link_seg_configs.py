"""Released segmentation configs: the official numbers of each."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet3d.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

KITTI, NUSCENES = '4xb2-25e_semantickitti-seg', '4xb16-80e_nus-seg'
# mode, blocks, block size, groups, width, parameters
SETTINGS = {
    f'linkunet_cosx-2x3_{KITTI}': ('cos_x', 2, 3, 1, 64, 5_747_988),
    f'linkunet_cos-3x7_{KITTI}': ('cos', 3, 7, 2, 64, 5_747_348),
    # Less the 2 378 752 that the official encoder never uses.
    f'linkencoder_cosx-2x3_{KITTI}': ('cos_x', 2, 3, 1, 64, 3_378_156),
    f'linkencoder_cos-3x5_{KITTI}': ('cos', 3, 5, 2, 64, 3_377_516),
    f'linkencoder_cos-3x7_{KITTI}': ('cos', 3, 7, 2, 64, 3_377_516),
    f'linkunet_cosx-2x3-w32_{KITTI}': ('cos_x', 2, 3, 1, 32, None),
    f'linkunet_cosx-2x3-w40_{KITTI}': ('cos_x', 2, 3, 1, 40, None),
    f'linkencoder_cosx-2x3-w32_{KITTI}': ('cos_x', 2, 3, 1, 32, None),
    f'linkencoder_cosx-2x3-w40_{KITTI}': ('cos_x', 2, 3, 1, 40, None),
    f'linkunet_cosx-2x3_{NUSCENES}': ('cos_x', 2, 3, 1, 64, None),
    f'linkencoder_cosx-2x3_{NUSCENES}': ('cos_x', 2, 3, 1, 64, None),
}


@pytest.fixture(scope='module')
def configs(config_dir, own_scope) -> dict:
    """``{name: (config, model)}``, without memory for the weights."""
    built = {}
    with torch.device('meta'):
        for path in sorted((config_dir / 'link').glob('*-seg.py')):
            cfg = Config.fromfile(path)
            built[path.stem] = cfg, MODELS.build(cfg.model)
    return built


def test_all_configs_are_covered(configs):
    assert set(configs) == set(SETTINGS)


@pytest.mark.parametrize('name', SETTINGS)
def test_network(configs, name):
    cfg, model = configs[name]
    mode, num_blocks, block_size, groups, channels, params = SETTINGS[name]
    backbone, encoder = model.backbone, name.startswith('linkencoder')
    for stage in backbone.stages:
        kernel = stage.linear_kernel
        assert (kernel.mode, kernel.num_blocks, kernel.block_size, kernel.groups) == (
            mode,
            num_blocks,
            block_size,
            groups,
        )
        assert kernel.pos_weight[0].weight.shape == (channels // groups, 3)
        assert kernel.level_positions == (encoder and mode == 'cos_x')
    assert len(backbone.stages) == 4 and hasattr(backbone, 'up_stages') != encoder
    outputs = 17 if NUSCENES in name else 20
    last = model.decode_head.conv_seg[2] if encoder else model.decode_head.conv_seg
    assert last.weight.shape[:2] == (outputs, 120 if encoder else channels)
    assert model.decode_head.ignore_index == outputs - 1 and model.decode_head.dropout is None
    if params:
        assert sum(p.numel() for p in model.parameters()) == params
    preprocessor = model.data_preprocessor
    assert (preprocessor.voxel_size, preprocessor.max_voxels) == (0.15 if NUSCENES in name else 0.05, 80000)


@pytest.mark.parametrize('name', SETTINGS)
def test_recipe(configs, name):
    """The rate of each iteration against the official formula, on 4 GPUs."""
    cfg, _ = configs[name]
    epochs, batch, size = (80, 16, 28130) if NUSCENES in name else (25, 2, 19132)
    assert cfg.train_cfg.max_epochs == epochs and cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=4 * batch)
    wrapper = build_optim_wrapper(nn.Linear(2, 2), cfg.optim_wrapper)
    (group,) = wrapper.optimizer.param_groups
    assert type(wrapper.optimizer) is torch.optim.SGD and wrapper.clip_grad_kwargs is None
    assert (group['lr'], group['momentum'], group['nesterov'], group['weight_decay']) == (0.24, 0.9, True, 1e-4)

    warmup, total = 1000 // 4, epochs * math.ceil(size / (4 * batch))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer)) for s in cfg.param_scheduler]
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    for k in (0, 1, 100, 248, 249, 250, 251, 5000, total // 2, total - 1):
        wanted = (k + 1) / warmup if k < warmup else 0.5 * (1 + math.cos(math.pi * (k - warmup) / total))
        assert rates[k] == pytest.approx(wanted, rel=1e-4, abs=1e-7), k


@pytest.mark.parametrize('name', SETTINGS)
def test_data(configs, name):
    cfg, _ = configs[name]
    kinds = ['CheckPointFile', 'LoadPointsFromFile', 'CheckLabelFile', 'LoadAnnotations3D', 'PointSegClassMapping']
    steps = cfg.train_dataloader.dataset.pipeline
    assert [step.type for step in steps] == [*kinds, 'GlobalRotScaleTrans', 'RandomFlip3D', 'Pack3DDetInputs']
    check, load, *_, turn, flip, _ = map(TRANSFORMS.build, steps)
    assert check.load_dim == load.load_dim == (5 if NUSCENES in name else 4) and load.use_dim == [0, 1, 2, 3]
    assert list(turn.rot_range) == pytest.approx([0, 2 * math.pi], abs=1e-6)
    assert list(turn.scale_ratio_range) == [0.95, 1.05] and list(turn.translation_std) == [0, 0, 0]
    assert flip.flip_ratio_bev_horizontal == flip.flip_ratio_bev_vertical == 0.5 and not flip.sync_2d
    for split in ('val', 'test'):  # nothing is augmented, unlike in the official nuScenes evaluation
        dataset = cfg[f'{split}_dataloader'].dataset
        assert [step.type for step in dataset.pipeline] == [*kinds, 'Pack3DDetInputs'] and dataset.test_mode
        assert cfg[f'{split}_evaluator'].type == 'UnlabelledSegMetric'
    assert cfg.default_scope == 'mmdet3d' and cfg.custom_imports.imports[0] == 'mvbench_plugins.link'
    assert (cfg.visualizer.type, cfg.visualizer.ahead) == ('LidarPictureVisualizer', 'y' if NUSCENES in name else 'x')
