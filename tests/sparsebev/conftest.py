"""A SparseBEV small enough to run a training step in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from mmdet3d.registry import MODELS
from mmengine.config import ConfigDict
from sparsebev_batches import NUM_CLASSES, make_batch
from torch import nn

import mvbench_plugins.sparsebev  # noqa: F401  registers

PC_RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
MODEL = dict(
    type='SparseBEV',
    data_preprocessor=dict(
        type='SparseBEVDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        color_augmentation=False,
        grid_mask_prob=0.0,
    ),
    img_backbone=dict(
        type='mmdet.ResNet',
        depth=18,
        base_channels=8,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(1, 2),
        norm_eval=True,
    ),
    img_neck=dict(type='mmdet.FPN', in_channels=[16, 32], out_channels=64, num_outs=2),
    pts_bbox_head=dict(
        type='SparseBEVHead',
        num_classes=NUM_CLASSES,
        in_channels=64,
        num_query=16,
        pc_range=PC_RANGE,
        num_frames=2,
        num_levels=2,
        num_decoder_layers=3,
        feedforward_channels=64,
        dropout=0.0,
        with_cp=False,
        denoising=dict(num_groups=3),
        bbox_coder=dict(
            type='SparseBEVBoxCoder',
            pc_range=PC_RANGE,
            post_center_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0],
            max_num=20,
            score_threshold=0.0,
        ),
    ),
    train_cfg=dict(assigner=dict(type='SparseBEVAssigner')),
)


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """``build(head=dict(...), **options)`` makes the small model with these options, off the start.

    At the start all queries sample alike, sizes are random and nothing is likely; here they differ.
    """

    def make(head: dict | None = None, **options) -> nn.Module:
        torch.manual_seed(0)
        cfg = ConfigDict(MODEL)
        cfg = ConfigDict({**cfg, **options, 'pts_bbox_head': {**cfg.pts_bbox_head, **(head or {})}})
        model = MODELS.build(cfg)
        model.init_weights()
        layer = model.pts_bbox_head.decoder.layer
        for linear in (layer.self_attn.gen_tau, layer.sampling.sampling_offset, layer.mixing.parameter_generator):
            nn.init.normal_(linear.weight, std=0.05)
        model.pts_bbox_head.init_query_bbox.weight.data[:, 2] = 0.6
        return model

    return make


@pytest.fixture
def batch() -> dict:
    """Two samples with 3 boxes and 1, as the data loader hands them over."""
    return make_batch([3, 1])
