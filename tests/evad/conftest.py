"""An EVAD small enough to run a training step in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from evad_batches import NUM_ACTIONS, make_batch
from mmaction.registry import MODELS
from mmengine.config import Config, ConfigDict
from torch import nn

import mvbench_plugins.evad  # noqa: F401  registers

# The released model with narrow layers: four blocks, of which the last three prune, two stages, three decoder blocks.
NARROW = f"""
model = dict(
    backbone=dict(
        embed_dims=64, depth=4, num_heads=2, prune_blocks=(1, 2, 3), out_indices=(0, 1, 2, 3), keep_rate=0.7,
        drop_path_rate=0.0, with_cp=False, init_cfg=None,
    ),
    neck=dict(in_channels=[64] * 4, out_channels=64),
    proposals=dict(num_proposals=10, proposal_feature_channel=64),
    head=dict(
        num_classes={NUM_ACTIONS},
        localizer=dict(
            num_stages=2,
            stage=dict(
                in_channels=64,
                feedforward_channels=64,
                dynamic_conv_cfg=dict(in_channels=64, feat_channels=16, out_channels=64),
            ),
            roi_extractor=dict(out_channels=64, finest_scale=8),
        ),
        refinement=dict(
            in_channels=64, embed_dims=24, depth=3, num_heads=2, hidden_dim=32, drop_path_rate=0.0,
            extend=(0.4, 0.2), with_cp=False,
        ),
    ),
)
"""


@pytest.fixture(scope='session')
def narrow(config_dir, tmp_path_factory) -> Path:
    """A config file of the small model."""
    path = tmp_path_factory.mktemp('evad') / 'narrow.py'
    base = config_dir / 'evad' / '_base_' / 'evad_vit-b.py'
    path.write_text(f"_base_ = {str(base)!r}\ndefault_scope = 'mmaction'\n{NARROW}")
    return path


@pytest.fixture
def build(narrow) -> Callable[..., nn.Module]:
    """``build(**options)`` makes the small model, with these options of its parts, off the start.

    Untrained, the first boxes all are the whole clip; here they differ.
    """

    def make(**options) -> nn.Module:
        torch.manual_seed(0)
        cfg = Config.fromfile(narrow)
        cfg.merge_from_dict(dict(model=options))
        model = MODELS.build(ConfigDict(cfg.model))
        model.init_weights()
        for block in model.backbone.blocks:
            nn.init.normal_(block.attn.qkv.weight, std=0.25)  # scores that spread
        boxes = model.proposals.init_proposal_bboxes.weight
        with torch.no_grad():
            boxes[:, :2] = torch.rand(len(boxes), 2) * 0.4 + 0.3
            boxes[:, 2:] = torch.linspace(0.1, 0.95, len(boxes))[:, None]  # of all levels of the pyramid
        for stage in model.head.localizer.stages:
            nn.init.normal_(stage.fc_reg.weight, std=0.05)
        return model

    return make


@pytest.fixture
def batch() -> dict:
    """Two clips of different size with 3 people and 1, as the data loader hands them over."""
    return make_batch([3, 1])
