"""The released configs say what was published."""

from __future__ import annotations

import pytest
from mmdet3d.registry import MODELS, TRANSFORMS
from mmdet3d.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import init_default_scope

NAMES = [
    'link_det_voxel0075_4xb2-cyclic-20e_nus-3d.py',
    'link_det_voxel0075-no-gt-sampling_4xb2-cyclic-20e_nus-3d.py',
    'link_det_voxel0075_4xb4-cyclic-20e_nus-trainval-3d.py',
    'link_det_voxel0075-no-gt-sampling_4xb4-cyclic-20e_nus-trainval-3d.py',
    'link_det_voxel0075-flip-tta_4xb2-cyclic-20e_nus-3d.py',
    'link_det_voxel0075-flip-rot-tta_4xb2-cyclic-20e_nus-3d.py',
    'link_det_voxel01_4xb2-cyclic-20e_nus-3d.py',
    'link_det_toy.py',
    'link_det_conv3x3_toy.py',
]


@pytest.fixture(autouse=True)
def registered():
    register_all_modules()
    init_default_scope('mmdet3d')


def train_set(cfg: Config) -> Config:
    """The data set itself, without class balancing."""
    return cfg.train_dataloader.dataset.get('dataset', cfg.train_dataloader.dataset)


def load(config_dir, name: str) -> Config:
    return Config.fromfile(config_dir / 'link' / name)


def test_all_configs_are_listed(config_dir):
    assert sorted(path.name for path in (config_dir / 'link').glob('link_det_*.py')) == sorted(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_ranges_and_grids_agree(config_dir, name):
    model = load(config_dir, name).model
    layer, train = model.data_preprocessor.voxel_layer, model.train_cfg.pts
    low, high = layer.point_cloud_range[:3], layer.point_cloud_range[3:]
    grid = [round((b - a) / edge) for a, b, edge in zip(low, high, layer.voxel_size, strict=True)]
    coder = model.pts_bbox_head.bbox_coder
    assert train.point_cloud_range == layer.point_cloud_range and train.voxel_size == layer.voxel_size
    assert train.grid_size == grid and model.pts_middle_encoder.sparse_shape == [grid[2] + 1, grid[1], grid[0]]
    assert coder.pc_range == low[:2] and coder.voxel_size == layer.voxel_size[:2]
    assert isinstance(layer.max_voxels, tuple)  # mmdet3d takes a list for one number


@pytest.mark.parametrize('name', NAMES)
def test_pipelines_build_and_objects_are_pasted_where_they_should(config_dir, name):
    cfg = load(config_dir, name)
    pipeline = train_set(cfg).pipeline
    pasted = [step for step in pipeline if step.type == 'ObjectSampleIntoScene']
    assert len(pasted) == (0 if 'no-gt-sampling' in name or 'toy' in name else 1)
    for step in (*pipeline, *cfg.test_dataloader.dataset.pipeline):
        if step not in pasted:
            TRANSFORMS.build(step)
    for step in pasted:
        database = step.db_sampler.info_path
        assert database.endswith('trainval.pkl' if 'trainval' in name else 'train.pkl')
        assert sum(step.db_sampler.sample_groups.values()) == 40
    object_range = next(step for step in pipeline if step.type == 'ObjectCornerRangeFilter').point_cloud_range
    assert object_range == cfg.model.data_preprocessor.voxel_layer.point_cloud_range
    assert train_set(cfg).ann_file.endswith('trainval.pkl' if 'trainval' in name else 'train.pkl')
    balanced = cfg.train_dataloader.dataset.type == 'CBGSDataset'
    assert balanced == ('toy' not in name)


def test_the_published_size(config_dir):
    model = MODELS.build(load(config_dir, NAMES[0]).model)

    def count(*modules) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    assert count(model) == 10_729_030
    assert count(model.pts_middle_encoder) == 4_482_752
    assert count(model.pts_backbone, model.pts_neck) == 4_576_768
    assert count(model.pts_bbox_head) == 1_669_510


def test_the_recipe(config_dir):
    cfg = load(config_dir, NAMES[0])
    rates = [step.eta_min for step in cfg.param_scheduler if step.type == 'CosineAnnealingLR']
    momenta = [step.eta_min for step in cfg.param_scheduler if step.type == 'CosineAnnealingMomentum']
    assert rates == pytest.approx([1e-3, 1e-8]) and momenta == [0.85, 0.95]
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, tuple(optimizer.betas)) == ('AdamW', 1e-4, (0.95, 0.99))
    assert 'paramwise_cfg' not in cfg.optim_wrapper and cfg.optim_wrapper.clip_grad.max_norm == 35
    assert [hook.disable_after_epoch for hook in cfg.custom_hooks] == [15]
    assert cfg.train_dataloader.batch_size == 2
    assert load(config_dir, NAMES[2]).train_dataloader.batch_size == 4
