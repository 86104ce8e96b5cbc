"""mmdet3d's inferencers on small networks with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from link_clouds import small_model
from mmdet3d.apis import LidarDet3DInferencer, LidarSeg3DInferencer
from mmdet3d.registry import MODELS
from mmengine.config import Config

RANGE = [-12.0, -12.0, -5.0, 12.0, 12.0, 3.0]


def small_det_config(config_dir: Path) -> Config:
    """The toy network on a small range, which takes the first boxes that come."""
    cfg = Config.fromfile(config_dir / 'link' / 'link_det_toy.py')
    model = cfg.model
    model.data_preprocessor.voxel_layer.point_cloud_range = RANGE
    model.pts_middle_encoder.sparse_shape = [41, 160, 160]
    model.pts_bbox_head.bbox_coder.update(pc_range=RANGE[:2], score_threshold=0.01)
    model.train_cfg.pts.update(point_cloud_range=RANGE, grid_size=[160, 160, 40])
    model.test_cfg.pts.update(score_threshold=0.01, pre_max_size=100)
    return cfg


def det_inferencer(config_dir: Path, folder: Path) -> LidarDet3DInferencer:
    """For files of five numbers a point; writes its config and weights into a folder."""
    cfg = small_det_config(config_dir)
    torch.manual_seed(0)
    weights = MODELS.build(cfg.model).state_dict()
    return _saved(LidarDet3DInferencer, cfg, weights, cfg.metainfo.to_dict(), folder)


def seg_inferencer(config_dir: Path, folder: Path, name: str) -> LidarSeg3DInferencer:
    """For files of four numbers a point; writes its config and weights into a folder."""
    cfg = Config.fromfile(config_dir / 'link' / f'{name}.py')
    cfg.model.backbone.channels = cfg.model.decode_head.channels = 8
    weights = small_model(config_dir, name).state_dict()
    return _saved(LidarSeg3DInferencer, cfg, weights, dict(classes=cfg.class_names, palette='random'), folder)


def sweep(count: int, seed: int = 0) -> np.ndarray:
    """x, y, z, intensity, ring."""
    rng = np.random.default_rng(seed)
    return (rng.random((count, 5)) * [20, 20, 4, 255, 31] - [10, 10, 3, 0, 0]).astype(np.float32)


def _saved(kind: type, cfg: Config, weights: dict, meta: dict, folder: Path):
    cfg.dump(folder / 'config.py')
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=meta)), folder / 'weights.pth')
    inferencer = kind(str(folder / 'config.py'), str(folder / 'weights.pth'), device='cpu')
    inferencer.show_progress = False
    return inferencer
