"""The toy config of each plugin, so small that eight iterations take a second or two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
EPOCHS, ITERS_PER_EPOCH, BATCH = 4, 2, 2
ITERS = EPOCHS * ITERS_PER_EPOCH
# the rest, such as pipelines by name, is in them already; mmengine formats all of the config for each checkpoint
KEYS = (
    *('default_scope', 'custom_imports', 'env_cfg', 'randomness', 'model', 'train_dataloader', 'train_cfg'),
    *('optim_wrapper', 'param_scheduler', 'default_hooks', 'custom_hooks', 'log_processor', 'visualizer'),
)


class Plugin(NamedTuple):
    """How a plugin is trained here."""

    config: str
    data: str  # fixture with the folder of the toy data
    shrink: Callable[[Config, str], None]


def make_config(plugin: Plugin, data: Path) -> Config:
    """A config of ``EPOCHS`` epochs of ``ITERS_PER_EPOCH`` iterations with a checkpoint after each, without validation.

    By iterations, for the plugins whose config is: a checkpoint after each ``ITERS_PER_EPOCH`` of ``ITERS``.
    """
    cfg = Config.fromfile(CONFIGS / plugin.config)
    cfg.custom_imports.imports.append('fault_hooks')
    plugin.shrink(cfg, f'{data}/')
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.update(batch_size=BATCH, num_workers=0, persistent_workers=False)
    if cfg.train_cfg.type == 'EpochBasedTrainLoop':
        dataset.indices = list(range(BATCH * ITERS_PER_EPOCH))
        cfg.train_cfg.max_epochs, interval = EPOCHS, 1
    else:
        cfg.train_cfg.max_iters, interval = ITERS, ITERS_PER_EPOCH
    cfg.train_dataloader.dataset = dict(type='SeededSamples', dataset=dataset)
    cfg.train_cfg.val_interval = 1000
    # the kinds of the toy config, over the iterations there are: the rate differs in each
    rise, fall = cfg.param_scheduler
    rise.update(begin=0, end=ITERS_PER_EPOCH + 1)
    length = EPOCHS if fall.by_epoch else ITERS
    fall.update(begin=0, end=length, T_max=length)
    cfg.default_hooks.checkpoint.interval = interval
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='RecordHook')]
    return Config({key: cfg[key] for key in KEYS if key in cfg})


def _action_data(cfg: Config, data: str) -> None:
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = data
    for step in dataset.pipeline:
        if step.type == 'ResizeShortSide':
            step.scale = 48


def _stmixer(cfg: Config, data: str) -> None:
    _action_data(cfg, data)
    cfg.model.backbone.base_channels = 4
    cfg.model.neck.in_channels = [4, 8, 16, 32]
    cfg.model.head.update(num_queries=6, num_stages=2)
    cfg.model.head.stage.update(num_points=4, feedforward_channels=32)


def _cycleacr(cfg: Config, data: str) -> None:
    _action_data(cfg, data)
    cfg.model.backbone.base_channels = 4
    cfg.model.head.update(in_channels=16, dim=16, hidden_dim=16)


def _evad(cfg: Config, data: str) -> None:
    _action_data(cfg, data)
    cfg.model.backbone.update(img_size=48, patch_size=16)
    cfg.model.proposals.num_proposals = 8
    cfg.model.head.localizer.num_stages = 1


def _sparsebev(cfg: Config, data: str) -> None:
    cfg.train_dataloader.dataset.update(data_root=data)
    cfg.model.img_backbone.base_channels = 8
    cfg.model.img_neck.in_channels = [8, 16, 32, 64]
    cfg.model.pts_bbox_head.update(num_query=16, num_decoder_layers=2, feedforward_channels=32)


def _link(cfg: Config, data: str) -> None:
    cfg.train_dataloader.dataset.data_root = data
    cfg.model.data_preprocessor.voxel_size = 0.8
    cfg.model.backbone.channels = cfg.model.decode_head.channels = 8


def _jointformer(cfg: Config, data: str) -> None:
    cfg.train_dataloader.dataset.data_root = data
    cfg.train_dataloader.dataset.pipeline[2]['transforms'][1]['size'] = 48
    cfg.model.loss_ce.update(start=2, end=10)
    cfg.custom_hooks = [dict(type='VOSCurriculumHook', max_jumps=[(0.0, 3), (0.4, 5), (0.7, 8)])]


def _deqdet(cfg: Config, data: str) -> None:
    cfg.train_dataloader.dataset.data_root = data
    cfg.model.backbone.base_channels = 4
    cfg.model.neck.in_channels = [4, 8, 16, 32]


PLUGINS = {
    'stmixer': Plugin('stmixer/stmixer_r18_toy.py', 'toy_ava', _stmixer),
    'cycleacr': Plugin('cycleacr/cycleacr_r18_toy.py', 'toy_ava', _cycleacr),
    'evad': Plugin('evad/evad_vit-toy.py', 'toy_ava', _evad),
    'sparsebev': Plugin('sparsebev/sparsebev_r18_1-frame_toy.py', 'toy_nuscenes', _sparsebev),
    'link': Plugin('link/link_seg_toy.py', 'toy_kitti', _link),
    'jointformer': Plugin('jointformer/jointformer_toy.py', 'toy_davis', _jointformer),
    'deqdet': Plugin('deqdet/deqdet_r18_toy.py', 'toy_coco', _deqdet),
}
