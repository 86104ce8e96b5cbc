"""Official models and pretrained backbones load, directly and converted; anything else is refused with a reason."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import official_names
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from mvbench_plugins.stmixer.checkpoint import convert_backbone_state_dict

ROOT = Path(__file__).resolve().parents[2]
R50, R101 = (3, 4, 6, 3), (3, 4, 23, 3)
SLOWONLY = 'stmixer_slowonly-r50-k400-pre_8xb2-4x16x1-12e_ava22-rgb.py'
SLOWFAST_NL = 'stmixer_slowfast-r101-nl-k600-pre_8xb2-32x2x1-12e_ava22-rgb.py'
VIT = 'stmixer_vit-b-k400-pre_8xb1-16x4x1-12e_ava22-rgb.py'

# The released configs with narrow layers.
NARROW = dict(
    slowonly=f"""
_base_ = {str(ROOT / 'configs' / 'stmixer' / SLOWONLY)!r}
model = dict(
    backbone=dict(base_channels=8, pretrained=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    head=dict(num_stages=2, num_queries=9, stage=dict(embed_dims=64, feedforward_channels=64)),
)
""",
    slowfast=f"""
_base_ = {str(ROOT / 'configs' / 'stmixer' / SLOWFAST_NL)!r}
model = dict(
    backbone=dict(slow_pathway=dict(base_channels=8), fast_pathway=dict(base_channels=1), pretrained=None),
)
""",
    vit=f"""
_base_ = {str(ROOT / 'configs' / 'stmixer' / VIT)!r}
model = dict(backbone=dict(embed_dims=48, depth=2, num_heads=2, init_cfg=None))
""",
)


class MemoryPool:
    """An object of a foreign code base."""


class RunsCode:
    def __reduce__(self):
        return os.system, (f'touch {RunsCode.marker}',)


@pytest.fixture
def config(tmp_path):
    """``config('slowonly')`` writes one of the narrow configs."""

    def write(name: str) -> Path:
        path = tmp_path / f'{name}.py'
        path.write_text(NARROW[name])
        return path

    return write


def _model(config: Path, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return _draw(MODELS.build(Config.fromfile(config).model))


def _backbone(config: Path, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return _draw(MODELS.build(Config.fromfile(config).model.backbone))


def _draw(module: nn.Module) -> nn.Module:
    """Values of its own for every entry, so that none can be taken for another."""
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.normal_()
    return module


def _assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert set(got) == set(want)
    for name, value in want.items():
        assert torch.equal(got[name], value), name


@pytest.mark.parametrize('nesting', ['model', 'state_dict', None])
@pytest.mark.parametrize('prefix', ['', 'module.'], ids=['plain', 'distributed'])
def test_official_file_loads_directly_and_strictly(config, tmp_path, prefix, nesting):
    path, narrow = tmp_path / 'model_final.pth', config('slowonly')
    want = _model(narrow, 1).state_dict()
    official = official_names.stmixer(want)
    assert 'stm_head.decoder_stages.1.samplingmixing.adaptive_mixing_t.parameter_generator.0.bias' in official
    assert 'backbone.s5.pathway0_res2.branch2.c_bn.running_var' in official
    official['stm_head.criterion.empty_weight'] = torch.tensor([1.0, 0.1])
    official = {prefix + key: value for key, value in official.items()}
    torch.save({nesting: official, 'iteration': 7} if nesting else official, path)
    model = _model(narrow, 2)
    load_checkpoint(model, str(path), strict=True)
    _assert_same(model.state_dict(), want)


def _convert(*args: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-W', 'ignore', ROOT / 'tools' / 'convert_checkpoint.py', 'stmixer', *args]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_file_with_a_memory_pool(config, tmp_path):
    """As training writes it: refused by the ordinary loader, which names the tool; the tool converts it."""
    source, out, narrow = tmp_path / 'model_0100.pth', tmp_path / 'converted.pth', config('slowonly')
    RunsCode.marker = tmp_path / 'code was run'
    want = _model(narrow, 1).state_dict()
    official = {**official_names.stmixer(want), 'stm_head.criterion.empty_weight': torch.tensor([1.0, 0.1])}
    torch.save(dict(model=official, iteration=7, person_pool=MemoryPool(), other=RunsCode()), source)
    with pytest.raises(ValueError, match=r'model_0100\.pth.*tools/convert_checkpoint\.py'):
        load_checkpoint(_model(narrow, 2), str(source))
    done = _convert(source, out, '--config', narrow)
    assert done.returncode == 0, done.stderr
    assert 'left out   stm_head.criterion.empty_weight [2]' in done.stdout and 'loads strictly into' in done.stdout
    assert re.search(r'not built  .*MemoryPool \(1x\)', done.stdout)
    assert not RunsCode.marker.exists()
    model = _model(narrow, 2)
    load_checkpoint(model, str(out), strict=True)
    _assert_same(model.state_dict(), want)


def test_checkpoint_of_another_detector_is_refused(config, tmp_path):
    path, narrow = tmp_path / 'slowonly_ava.pth', config('slowonly')
    model = _model(narrow, 1)
    backbone = {f'backbone.{key}': value for key, value in model.backbone.state_dict().items()}
    torch.save(dict(state_dict={**backbone, 'roi_head.bbox_head.fc_cls.weight': torch.ones(81, 9)}), path)
    with pytest.raises(ValueError, match=r'slowonly_ava\.pth holds weights of another model.*prefix='):
        load_checkpoint(model, str(path))
    done = _convert(path, tmp_path / 'out.pth', '--config', narrow)
    assert done.returncode == 1 and not (tmp_path / 'out.pth').exists()
    assert f'{path} does not fit {narrow}; nothing was written' in done.stderr and 'Traceback' not in done.stderr


def test_another_class_count_still_loads(config, tmp_path):
    """Fine-tuning from AVA on one's own classes: everything but the class layers is taken over."""
    path, narrow = tmp_path / 'ava.pth', config('slowonly')
    ava = _model(narrow, 1)
    torch.save(dict(state_dict=ava.state_dict()), path)
    cfg = Config.fromfile(narrow)
    cfg.model.head.num_classes = 21
    model = MODELS.build(cfg.model)
    load_checkpoint(model, str(path))
    assert torch.equal(model.head.stages[1].box_head[3].weight, ava.head.stages[1].box_head[3].weight)


def _blobs(backbone: nn.Module, blocks: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A Caffe2 file's content: the weights, the classifier and what the solver kept."""
    named = official_names.caffe2(backbone.state_dict(), blocks)
    blobs = {key: value.numpy() for key, value in named.items()}
    momentum = {f'{key}_momentum': value for key, value in blobs.items() if key.endswith(('_w', '_b', '_s'))}
    extra = dict(pred_w=np.ones((400, 9), np.float32), pred_b=np.ones(400, np.float32), lr=np.ones(1, np.float32))
    return {**blobs, **momentum, **extra, 'model_iter': np.ones(1, np.int64), 'pred_w_momentum': extra['pred_w']}


@pytest.mark.parametrize('name, blocks', [('slowonly', R50), ('slowfast', R101)])
def test_caffe2_blobs(config, name, blocks):
    backbone = _backbone(config(name), 1)
    blobs = {key: torch.from_numpy(value) for key, value in _blobs(backbone, blocks).items()}
    probes = {'conv1_w', 'res_conv1_bn_riv', 'res2_0_branch1_bn_s', 'res4_5_branch2a_bn_rm'}
    if name == 'slowfast':
        probes |= {'t_pool1_subsample_bn_s', 't_res4_22_branch2c_bn_subsample_w', 'nonlocal_conv4_6_theta_b'}
        probes |= {'nonlocal_conv4_20_bn_s', 't_res2_0_branch2a_w', 't_res_conv1_bn_rm', 't_conv1_w'}
    assert probes < set(blobs)
    converted, dropped = convert_backbone_state_dict(blobs)
    want = {key: value for key, value in backbone.state_dict().items() if not key.endswith('num_batches_tracked')}
    _assert_same(converted, want)
    assert all(re.fullmatch(r'pred_[wb]|lr|model_iter|.*_momentum', key) for key in dropped)


def _write_pkl(path: Path, blobs: dict[str, np.ndarray]) -> None:
    path.write_bytes(pickle.dumps(dict(blobs=blobs, cfg='config as text'), protocol=2))


@pytest.mark.parametrize('name, blocks', [('slowonly', R50), ('slowfast', R101)])
def test_pretrained_pkl_loads_directly(config, tmp_path, name, blocks):
    """``pretrained='X.pkl'``, as the released configs have it."""
    want = _backbone(config(name), 1)
    _write_pkl(tmp_path / 'K400.pkl', _blobs(want, blocks))
    cfg = Config.fromfile(config(name)).model
    cfg.backbone.pretrained = str(tmp_path / 'K400.pkl')
    model = MODELS.build(cfg)
    model.init_weights()
    for (key, value), expected in zip(model.backbone.state_dict().items(), want.state_dict().values(), strict=True):
        assert key.endswith('num_batches_tracked') or torch.equal(value, expected), key


@pytest.mark.parametrize('name, other, blocks', [('slowonly', 'slowfast', R101), ('slowfast', 'slowonly', R50)])
def test_pkl_of_another_backbone_is_refused(config, tmp_path, name, other, blocks):
    _write_pkl(tmp_path / 'other.pkl', _blobs(_backbone(config(other), 1), blocks))
    model = _model(config(name), 2)
    model.backbone.pretrained = str(tmp_path / 'other.pkl')
    with pytest.raises(ValueError, match=r'other\.pkl holds weights of another model.*pretrained file'):
        model.backbone.init_weights()


def test_hostile_pkl_is_refused(config, tmp_path):
    RunsCode.marker = tmp_path / 'code was run'
    path = tmp_path / 'hostile.pkl'
    path.write_bytes(pickle.dumps(dict(blobs=dict(conv1_w=np.ones(1)), evil=RunsCode())))
    with pytest.raises(ValueError, match=r'hostile\.pkl.*system'):
        load_checkpoint(_model(config('slowonly'), 1).backbone, str(path))
    assert not RunsCode.marker.exists()


def _videomae_file(backbone: nn.Module, kind: str) -> dict:
    weights = official_names.videomae(backbone.state_dict())
    if kind == 'fine-tuned':
        weights['fc_norm.weight'], weights['fc_norm.bias'] = weights.pop('norm.weight'), weights.pop('norm.bias')
        return dict(module={**weights, 'head.weight': torch.ones(400, 48), 'head.bias': torch.ones(400)})
    weights = {f'encoder.{key}': value for key, value in weights.items()}
    decoder = {'encoder_to_decoder.weight': torch.ones(3, 48), 'decoder.blocks.0.norm1.weight': torch.ones(3)}
    return dict(model={**weights, **decoder, 'mask_token': torch.ones(1, 1, 3), 'decoder.norm.bias': torch.ones(3)})


@pytest.mark.parametrize('kind', ['fine-tuned', 'pretrained'])
def test_videomae_file_loads_directly(config, tmp_path, kind):
    path = tmp_path / 'vit_b.pth'
    want = _model(config('vit'), 1).backbone
    assert 'blocks.1.attn.q_bias' in want.state_dict() and 'pos_embed' not in want.state_dict()
    torch.save(_videomae_file(want, kind), path)
    cfg = Config.fromfile(config('vit')).model
    cfg.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    got = MODELS.build(cfg).backbone
    got.init_weights()
    for key, value in want.state_dict().items():
        if kind == 'fine-tuned' and key.startswith('norm.'):
            value = torch.full_like(value, float(key == 'norm.weight'))
        assert torch.equal(got.state_dict()[key], value), key


def test_videomae_file_in_a_cnn_is_refused(config, tmp_path):
    path = tmp_path / 'vit_b.pth'
    torch.save(_videomae_file(_backbone(config('vit'), 1), 'fine-tuned'), path)
    with pytest.raises(ValueError, match=r'vit_b\.pth holds weights of another model'):
        load_checkpoint(_model(config('slowonly'), 2).backbone, str(path))


def test_conversion_of_a_pretrained_backbone(config, tmp_path):
    """The result has our names under ``backbone.`` and loads as the backbone of the model."""
    narrow, source, out = config('slowonly'), tmp_path / 'K400.pkl', tmp_path / 'K400.pth'
    want = _backbone(narrow, 1)
    _write_pkl(source, _blobs(want, R50))
    done = _convert(source, out, '--config', narrow)
    assert done.returncode == 0, done.stderr
    cfg = Config.fromfile(narrow).model
    cfg.backbone.pretrained = str(out)
    model = MODELS.build(cfg)
    model.init_weights()
    for key, value in want.state_dict().items():
        assert key.endswith('num_batches_tracked') or torch.equal(model.backbone.state_dict()[key], value), key
