"""Every config builds the published model, its recipe and its data; the toy config trains, tests and goes on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image
from torch import nn

from mvbench_plugins.datasets.toy.davis import write_davis
from mvbench_plugins.jointformer.attention import TopK

# Section 6: clips in all, iterations and tail, milestone, frames; the start is a file, or ConvMAE for None.
RECIPES = {
    's0_6xb4-150k_static': (24, 150000, 0, 100000, 3, None),
    's01_6xb2-300k_bl30k': (12, 300000, 0, 200000, 4, 's0'),
    's2_6xb2-160k_davis17-ytvos19': (12, 150000, 10000, 100000, 4, None),
    's02_6xb2-160k_davis17-ytvos19': (12, 150000, 10000, 100000, 4, 's0'),
    's012_6xb2-160k_davis17-ytvos19': (12, 150000, 10000, 100000, 4, 's01'),
    's24_6xb2-40k_vost': (12, 30000, 10000, 20000, 4, 's2'),
    's024_6xb2-40k_vost': (12, 30000, 10000, 20000, 4, 's02'),
    's5_6xb2-160k_mose': (12, 150000, 10000, 100000, 4, None),
    's05_6xb2-160k_mose': (12, 150000, 10000, 100000, 4, 's0'),
    's015_6xb2-160k_mose': (12, 150000, 10000, 100000, 4, 's01'),
    's026_6xb2-10k_lvos': (12, 5000, 5000, 3000, 4, 's02'),
    's0126_6xb2-10k_lvos': (12, 5000, 5000, 3000, 4, 's012'),
    's7_6xb2-160k_visor': (12, 150000, 10000, 100000, 4, None),
    's07_6xb2-160k_visor': (12, 150000, 10000, 100000, 4, 's0'),
}
# Section 1: frames in memory, k; whether the ground truth is public.
BENCHMARKS = {
    'davis16-val': (1, 60, True),
    'davis17-val': (1, 60, True),
    'davis17-test-dev': (1, 60, False),
    'ytvos18-val': (3, 120, False),
    'ytvos19-val': (3, 120, False),
    'vost-val': (3, 30, True),
    'mose-val': (3, 180, False),
    'lvos-val': (3, 120, True),
    'lvos-test': (3, 120, False),
    'visor-val': (1, 600, True),
    'burst-val': (3, 30, False),
    'burst-test': (3, 30, False),
}
TESTED_ON = dict(
    static='davis17', bl30k='davis17', davis17='davis17', vost='vost', mose='mose', lvos='lvos', visor='visor'
)


@pytest.fixture(scope='module')
def configs(config_dir) -> dict[str, Config]:
    return {path.stem: Config.fromfile(path) for path in sorted((config_dir / 'jointformer').glob('*.py'))}


@pytest.fixture(scope='module', autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def test_all_configs_are_covered(configs):
    expected = {f'jointformer_{name}' for name in RECIPES} | {f'jointformer_eval_{name}' for name in BENCHMARKS}
    assert set(configs) == expected | {'jointformer_toy'}


def test_models_are_the_published_ones(configs):
    """Section 1: parameters in millions by part, and the number of entries; section 2.1: channels of stage 0."""
    for name, cfg in configs.items():
        if 'toy' in name:
            continue
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
        net, single = model.backbone, name.startswith('jointformer_s0_')
        parts = (model, net.blocks3, net.blocks4, net.blocks5, model.mask_head, net.pos_embed)
        sizes = [
            (part.numel() if isinstance(part, nn.Parameter) else sum(p.numel() for p in part.parameters())) / 1e6
            for part in parts
        ]
        assert sizes == pytest.approx([127.67, 77.97, 14.18, 7.09, 20.31, 0.44], abs=0.01), name
        assert len(model.state_dict()) == 288 and all(p.requires_grad for p in model.parameters())
        assert net.patch_embed1_memory.proj.in_channels == (4 if single else 5), name
        assert model.num_slots == (1 if single else 3) and model.draws.num_ref_frames == 2, name
        assert model.draws.token_update_prob == 0.6 and model.data_preprocessor.test_size == 480


def test_options_of_the_benchmarks(configs):
    for name, cfg in configs.items():
        benchmark = name.removeprefix('jointformer_eval_')
        if benchmark not in BENCHMARKS:
            continue
        frames, k, public = BENCHMARKS[benchmark]
        options = cfg.model.test_cfg
        assert (options.mem_every, options.max_memory_frames) == (5, frames), name
        assert TopK(**options.topk) == TopK(k, 'all_frames', 'all_blocks', token=False), name
        assert cfg.test_evaluator.get('format_only', False) is not public
        assert (cfg.get('val_evaluator') == cfg.test_evaluator and cfg.val_dataloader == cfg.test_dataloader) is public
        METRICS.build(cfg.test_evaluator)
        loader = cfg.test_dataloader
        assert loader.batch_size == 1 and loader.sampler.type == 'TrackImgSampler' and loader.dataset.test_mode
        assert DATASETS.get(loader.dataset.type) is not None
        assert [step.type for step in loader.dataset.pipeline] == ['TransformBroadcaster', 'PackVOSInputs']


def test_ignored_pixels_and_warm_up(configs):
    """Section 3: pixels that are not annotated in VOST, and where bootstrapping begins and ends."""
    for name in RECIPES:
        model = configs[f'jointformer_{name}'].model
        vost = name.endswith('vost')
        start, end = (4000, 13000) if vost else (1000, 2500) if name.endswith('lvos') else (20000, 70000)
        assert (model.loss_ce.start, model.loss_ce.end, model.loss_ce.ratio) == (start, end, 0.15), name
        losses = model.loss_ce, model.loss_dice
        assert {loss.get('ignore_index') for loss in losses} == {255 if vost else None}
        assert all(loss.loss_weight == 1.0 for loss in losses)


def test_recipes(configs):
    for name, (batch, iterations, tail, milestone, _, start) in RECIPES.items():
        cfg = configs[f'jointformer_{name}']
        gpus, per_gpu = map(int, re.search(r'_(\d)xb(\d)-', name).groups())
        assert gpus * per_gpu == batch == cfg.auto_scale_lr.base_batch_size, name
        assert cfg.train_dataloader.batch_size == per_gpu and cfg.train_dataloader.sampler.type == 'InfiniteSampler'
        assert cfg.train_cfg.type == 'IterBasedTrainLoop' and cfg.train_cfg.max_iters == iterations + tail, name
        (steps,) = cfg.param_scheduler
        assert (steps.type, steps.milestones, steps.gamma, steps.by_epoch) == ('MultiStepLR', [milestone], 0.1, False)
        assert cfg.randomness.seed == 14159265 and not cfg.log_processor.by_epoch
        assert not cfg.default_hooks.checkpoint.by_epoch
        assert cfg.train_cfg.max_iters % cfg.default_hooks.checkpoint.interval == 0
        pretrained = cfg.model.backbone.get('init_cfg')
        assert (pretrained is None) is (start is not None), name
        assert cfg.load_from == (start and f'checkpoints/jointformer_{start}.pth'), name
        trained, tested = name.split('k_')[1].split('-')[0], cfg.test_dataloader.dataset
        reference = next(
            value for key, value in configs.items() if key.startswith(f'jointformer_eval_{TESTED_ON[trained]}-val')
        )
        assert tested == reference.test_dataloader.dataset and cfg.model.test_cfg == reference.model.test_cfg, name


def test_curriculum(configs):
    """Section 5: how far apart frames may lie, and the tail without affine maps."""
    for name, (_, iterations, tail, *_) in RECIPES.items():
        cfg = configs[f'jointformer_{name}']
        if 'static' in name:
            assert not cfg.custom_hooks
            continue
        (hook,) = [HOOKS.build(entry) for entry in cfg.custom_hooks]
        total, calm = cfg.train_cfg.max_iters, 0.8 if 'bl30k' in name else 0.9
        places = [0, 0.1, 0.3, calm]
        for place, jump in zip(places, (5, 10, 15, 5), strict=True):
            assert hook.settings_at(round(place * iterations), total) == (jump, True), (name, place)
        for place, jump in zip(places[1:], (5, 10, 15), strict=True):
            assert hook.settings_at(round(place * iterations) - 1, total) == (jump, True), (name, place)
        assert hook.settings_at(total - 1, total) == (5, not tail), name


def test_optimizer(configs):
    """Section 6: everything decays; the backbone, its tokens and positions included, learns at a tenth."""
    for name in RECIPES:
        cfg = configs[f'jointformer_{name}']
        model = MODELS.build(dict(configs['jointformer_toy'].model))
        wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, type='OptimWrapper'))
        groups = {id(p): group for group in wrapper.optimizer.param_groups for p in group['params']}
        for key, param in model.named_parameters():
            found = groups[id(param)]['lr'], groups[id(param)]['weight_decay']
            assert found == pytest.approx((5e-6 if key.startswith('backbone.') else 5e-5, 0.05)), (name, key)
        assert type(wrapper.optimizer) is torch.optim.AdamW
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper' and cfg.optim_wrapper.clip_grad.max_norm == 0.1


def leaves(dataset: dict) -> list[tuple[int, dict]]:
    """Data sets below wrappers, with how often they are repeated."""
    if dataset['type'] == 'ConcatDataset':
        return [leaf for part in dataset['datasets'] for leaf in leaves(part)]
    if dataset['type'] == 'RepeatDataset':
        return [(times * dataset['times'], leaf) for times, leaf in leaves(dataset['dataset'])]
    return [(1, dataset)]


def test_mixtures(configs):
    def found(name: str) -> list[tuple[int, str]]:
        return [(n, part['type']) for n, part in leaves(configs[f'jointformer_{name}'].train_dataloader.dataset)]

    assert found('s012_6xb2-160k_davis17-ytvos19') == [(5, 'DAVISDataset'), (1, 'YouTubeVOSDataset')]
    assert sorted(n for n, _ in found('s0_6xb4-150k_static')) == [1, 1, 1, 1, 5, 5]
    for name, kind in (('s01_6xb2-300k_bl30k', 'VOSDataset'), ('s024_6xb2-40k_vost', 'VOSTDataset')):
        assert found(name) == [(1, kind)]


def davis_tree(root: Path, size: tuple[int, int] = (100, 160), frames: int = 24) -> Path:
    """Videos in all the layouts that a training needs: one moving object of label 1."""
    rng = np.random.default_rng(0)
    for video in ('a', 'b'):
        for t in range(frames):
            mask = np.zeros(size, np.uint8)
            mask[20:80, 30 + 2 * t : 90 + 2 * t] = 1
            for kind, pixels, suffix in (
                ('JPEGImages', rng.integers(0, 256, (*size, 3), np.uint8), 'jpg'),
                ('Annotations', mask, 'png'),
            ):
                path = root / kind / video / f'{t:05d}.{suffix}'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


@pytest.mark.parametrize(
    'name', [name for name in RECIPES if 'static' not in name and not re.match(r's0\d', name)] + ['s01_6xb2-300k_bl30k']
)
def test_clips(configs, tmp_path, name):
    """Real frames through the whole pipeline: 384 x 384, four frames, and slots for the objects."""
    root = davis_tree(tmp_path)
    for _, dataset in leaves(configs[f'jointformer_{name}'].train_dataloader.dataset):
        prefix = dict(img='JPEGImages', mask='Annotations')
        part = DATASETS.build(
            dict(type='VOSDataset', data_root=str(root), data_prefix=prefix, min_frames=4, pipeline=dataset['pipeline'])
        )
        assert dataset['min_frames'] == 4 and dataset['pipeline'][0].num_frames == 4
        assert dataset['pipeline'][0].get('jump_divisor', 1) == (
            5 if dataset['type'] in ('YouTubeVOSDataset', 'VOSTDataset', 'LVOSDataset') else 1
        )
        kinds = json.dumps(dataset['pipeline'])
        assert ('RandomVOSAffine' in kinds) is ('bl30k' not in name) and ('"ignore_void": true' in kinds) is (
            'vost' in name
        )
        assert f'"area": [{"0.25" if "bl30k" in name else "0.36"}, 1.0]' in kinds
        sample = part[0]
        assert sample['inputs']['img'].shape == (4, 3, 384, 384) and sample['inputs']['img'].dtype == torch.uint8
        clip = sample['data_samples']
        assert clip.num_objects == 1 and set(clip[0].gt_sem_seg.sem_seg.unique().tolist()) <= {0, 1}


def test_static_images(configs, tmp_path):
    rng = np.random.default_rng(0)
    datasets = leaves(configs['jointformer_s0_6xb4-150k_static'].train_dataloader.dataset)
    for _, dataset in datasets:
        folder = tmp_path / dataset['data_prefix']['img']
        folder.mkdir()
        mask = np.zeros((120, 90), np.uint8)
        mask[30:90, 20:70] = 255
        Image.fromarray(rng.integers(0, 256, (120, 90, 3), np.uint8)).save(folder / 'one.jpg')
        Image.fromarray(mask).save(folder / 'one.png')
    part = DATASETS.build(dict(datasets[0][1], data_root=str(tmp_path)))
    for _ in range(4):
        sample = part[0]
        assert sample['inputs']['img'].shape == (3, 3, 384, 384)
        clip = sample['data_samples']
        assert clip.num_objects == 1 and all(set(f.gt_sem_seg.sem_seg.unique().tolist()) <= {0, 1} for f in clip)
    first, second = sample['inputs']['img'][:2]
    assert not torch.equal(first, second), 'each frame is changed by itself'


def test_toy_config_trains_and_tests(configs, tmp_path):
    """Five iterations on toy videos, J&F with the real metric, and on from where it stopped."""
    write_davis(tmp_path / 'toy', seed=0, num_train=3, num_val=1)
    cfg = configs['jointformer_toy'].copy()
    cfg.work_dir, cfg.log_level = str(tmp_path / 'run'), 'WARNING'
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(tmp_path / 'toy')
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg.update(max_iters=5, val_interval=5)
    cfg.default_hooks.checkpoint.update(interval=5)
    for scheduler in cfg.param_scheduler:
        assert not scheduler.by_epoch
    runner = Runner.from_cfg(cfg)
    runner.train()
    scores = runner.test()
    assert 0 <= scores['vos/J&F'] <= 1
    assert runner.message_hub.get_scalar('train/loss').current() > 0

    cfg.train_cfg.max_iters = 6
    cfg.resume, cfg.experiment_name = True, 'resumed'
    again = Runner.from_cfg(cfg)
    again.train()
    assert again.iter == 6


def test_pipelines_build(configs):
    for name, cfg in configs.items():
        for split in ('train', 'test'):
            for _, dataset in leaves(cfg[f'{split}_dataloader'].dataset) if f'{split}_dataloader' in cfg else []:
                for step in dataset['pipeline']:
                    assert TRANSFORMS.build(step) is not None, name


def test_metafile_names_every_released_config(configs, config_dir):
    entries = yaml.safe_load((config_dir / 'jointformer/metafile.yml').read_text())['Models']
    released = {name for name in configs if 'toy' not in name and '_eval_' not in name}
    assert {entry['Name'] for entry in entries} == released
    for entry in entries:
        assert entry['Config'] == f'configs/jointformer/{entry["Name"]}.py' and entry['In Collection'] == 'JointFormer'
        if 'Results' in entry:
            assert all(result['Metrics'] and result['Task'] and result['Dataset'] for result in entry['Results'])
    assert 'configs/jointformer/metafile.yml' in (config_dir.parent / 'model-index.yml').read_text()
