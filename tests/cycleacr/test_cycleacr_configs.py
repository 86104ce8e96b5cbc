"""Every config builds the published model, its recipe and its data."""

from __future__ import annotations

import re
from functools import partial

import cycleacr_names
import pytest
import torch
from mmaction.registry import DATASETS, LOOPS, METRICS, MODELS, TRANSFORMS
from mmengine.config import Config

from mvbench_plugins.cycleacr import GroupedFocalLoss, MemoryTestLoop, MemoryValLoop, PersonSumBCELoss

R50 = 'cycleacr_slowfast-r50-pre_8xb4-32x2x1-50k_ava22-rgb.py'
R101 = 'cycleacr_slowfast-r101-k700-pre_8xb4-64x1x1-50k_ava22-rgb.py'
SWIN = 'cycleacr_swin-b-k600-pre_8xb4-32x2x1-50k_ava22-rgb.py'
VIT_B = 'cycleacr_vit-b-pre_32xb4-16x4x1-20e_ava22-rgb.py'
VIT_L = 'cycleacr_vit-l-k700-pre_32xb4-16x4x1-20e_ava22-rgb.py'
TOY = 'cycleacr_r18_toy.py'
# Millions of parameters of the official models, frozen norms not counted, and entries of their files
# (specification, sections 1 and 7).
PARAMS_M = {R50: 92.11, R101: 120.40, SWIN: 137.32, VIT_B: 114.26, VIT_L: 332.41}
ENTRIES = {R50: 639, R101: 1149, SWIN: 450, VIT_B: 219, VIT_L: 373}


@pytest.fixture(scope='module')
def models(config_dir):
    """Every config with its model, without memory for the weights."""
    built = {}
    # Drop-path rates are read back from a tensor, which the meta device cannot.
    with pytest.MonkeyPatch.context() as patch, torch.device('meta'):
        patch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))
        for path in sorted((config_dir / 'cycleacr').glob('*.py')):
            cfg = Config.fromfile(path)
            built[path.name] = cfg, MODELS.build(cfg.model)
    return built


def _released(models):
    return {name: pair for name, pair in models.items() if name != TOY}


def test_all_configs_are_covered(models):
    assert set(models) >= {*PARAMS_M, TOY}
    assert set(_released(models)) == set(PARAMS_M)


@pytest.mark.parametrize('name', PARAMS_M)
def test_parameters_and_entries_of_the_official_models(models, name):
    model = models[name][1]
    learnt = [param for key, param in model.named_parameters() if param.requires_grad]
    assert sum(param.numel() for param in learnt) / 1e6 == pytest.approx(PARAMS_M[name], abs=0.006)
    assert len(cycleacr_names.official(model.state_dict())) == ENTRIES[name]
    frozen = {key for key, param in model.named_parameters() if not param.requires_grad}
    assert all(re.search(r'\.bn\.(weight|bias)$', key) for key in frozen) and bool(frozen) == ('slowfast' in name)
    if name in (R101, VIT_B, VIT_L):
        head = sum(param.numel() for param in model.head.parameters()) / 1e6
        assert head == pytest.approx({R101: 58.61, VIT_B: 28.03, VIT_L: 28.55}[name], abs=0.006)


def test_names_of_the_official_swin(models):
    """Section 7; no case records them."""
    block = (
        r'blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)'
        r'|blocks\.\d+\.attn\.relative_position_(bias_table|index)'
    )
    known = re.compile(
        r'roi_heads\.action\..*|backbone\.(patch_embed\.(proj|norm)\.(weight|bias)|norm\.(weight|bias)'
        rf'|layers\.[0-3]\.({block})|layers\.[0-2]\.downsample\.(reduction\.weight|norm\.(weight|bias)))'
    )
    for key in cycleacr_names.official(models[SWIN][1].state_dict()):
        assert known.fullmatch(key), key


def test_frozen_norms_stay_as_they_are(models):
    for name in (R50, R101):
        backbone = models[name][1].train().backbone
        norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm3d)]
        assert len(norms) > 100 and not any(norm.training for norm in norms)


def test_head(models):
    """Sections 1, 2.3 to 2.6 and 3.1, per backbone."""
    for name, (_, model) in _released(models).items():
        head, vit = model.head, 'vit' in name
        assert head.roi_align.spatial_scale == (1 / 32 if name == SWIN else 1 / 16)
        assert (head.roi_align.aligned, head.roi_align.sampling_ratio) == (False, 0)
        assert head.roi_align.output_size == (7, 7)
        depth = 1 if vit else 2
        blocks = [head.cycle.local_a2c_blocks, head.cycle.local_c2a_blocks, head.cycle.global_a2c_blocks]
        blocks += [head.interaction.person_blocks, head.interaction.memory_blocks]
        assert [len(each) for each in blocks] == [depth] * 5, name
        assert (model.memory.before, model.memory.after, model.memory.max_per_second) == (30, 30, 5)
        assert vars(model.train_memory).keys() == vars(model.memory).keys() and model.train_memory is not model.memory
        assert head.interaction.max_persons == 20
        assert model.train_cfg == dict(max_persons=100 if vit else 10, jitter=True), name
        assert tuple(model.test_cfg['extend']) == ((0.0, 0.0) if name == SWIN else (-0.05, -0.1)), name
        assert type(head.loss) is (PersonSumBCELoss if vit else GroupedFocalLoss)
        if not vit:
            assert (list(head.loss.sizes), list(head.loss.weights)) == ([14, 49, 17], [1.2, 49.0, 17.0])
        assert {module.p for module in head.modules() if isinstance(module, torch.nn.Dropout)} == {0.2}
        frames = int(re.search(r'-(\d+)x\dx1-', name)[1])
        assert head.num_frames == (32 if 'slowfast' in name else frames // 2), name
        assert model.data_preprocessor.pad_size_divisor == 16


def test_two_passes_and_a_memory_that_survives(models):
    for name, (cfg, _) in models.items():
        assert (cfg.val_cfg.type, cfg.test_cfg.type) == ('MemoryValLoop', 'MemoryTestLoop'), name
        assert LOOPS.get('MemoryValLoop') is MemoryValLoop and LOOPS.get('MemoryTestLoop') is MemoryTestLoop
        assert 'MemoryBankHook' in [hook.type for hook in cfg.custom_hooks], name


def test_batches(models):
    for name, (cfg, _) in _released(models).items():
        processes, per_process = map(int, re.search(r'_(\d+)xb(\d)-', name).groups())
        assert cfg.train_dataloader.batch_size == per_process == 4
        assert cfg.auto_scale_lr.base_batch_size == processes * per_process == (128 if 'vit' in name else 32)


def test_pipelines(models):
    for name, (cfg, _) in models.items():
        train, test = (cfg[f'{split}_dataloader'].dataset.pipeline for split in ('train', 'val'))
        for step in (*train, *test):
            TRANSFORMS.build(step)
        assert cfg.test_dataloader.dataset.pipeline == test, name
        if name == TOY:
            continue
        vit = 'vit' in name
        frames, interval = map(int, re.search(r'-(\d+)x(\d+)x1-', name).groups())
        for pipeline in (train, test):
            steps = {step.type: step for step in pipeline}
            clip, resize = steps['LoadSecondClips'], steps['ResizeShortSideTruncated']
            assert (clip.clip_len, clip.frame_interval) == (frames, interval), name
            assert (resize.scale, resize.get('max_long')) == (256, None if vit else 464), name
            assert ('ClipHSVJitter' in steps, 'FlipClip' in steps) == (pipeline is train, pipeline is train), name
            assert ('RandomClipCrop' in steps) == (vit and pipeline is train), name


def test_data_sets_and_metric(models):
    """The labels have one column more than the head has classes; boxes of a detector for tests only."""
    for name, (cfg, model) in models.items():
        classes = 8 if name == TOY else 80
        assert model.head.num_classes == model.head.cls_score.out_features == classes
        for split in ('train', 'val', 'test'):
            dataset = cfg[f'{split}_dataloader'].dataset
            assert dataset.num_classes == classes + 1 and DATASETS.get(dataset.type) is not None, name
            assert bool(dataset.get('person_file')) == bool(dataset.get('test_mode')) == (split != 'train'), name
        assert cfg.val_dataloader.dataset.get('person_score_thr', 0.8) == 0.8
        assert METRICS.get(cfg.val_evaluator.type) is not None and cfg.test_evaluator == cfg.val_evaluator


def test_schedule_lengths(models):
    for name, (cfg, _) in _released(models).items():
        if 'vit' in name:
            assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (20, 10)
            assert cfg.optim_wrapper.paramwise_cfg.num_layers == len(models[name][1].backbone.blocks), name
        else:
            loop = cfg.train_cfg
            assert (loop.max_iters, loop.val_begin, loop.val_interval) == (50000, 30000, 5000)
