"""Official models and pretrained backbones load, directly and converted; anything else is refused with a reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cycleacr_names
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from mvbench_plugins.cycleacr.checkpoint import convert_state_dict

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / 'tests' / 'parity' / 'cases' / 'cycleacr'
BACKBONES = ['slowfast-r50', 'swin-b', 'vit-b']


class MemoryPool:
    """An object of a foreign code base, as official training writes it."""


def _model(config: Path, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = MODELS.build(Config.fromfile(config).model)
    cycleacr_names.distinct(model)
    return model


def _assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert set(got) == set(want)
    for name, value in want.items():
        assert torch.equal(got[name], value), name


@pytest.mark.parametrize('case', ['slowfast_r50_infer', 'vit_b_infer'])
def test_names_of_the_tests_are_those_of_the_cases(base_configs, case):
    """The inverse naming below rests on the recorded lists of official entries and their shapes."""
    recorded = json.loads((CASES / f'{case}.json').read_text())['state_dict']
    config = base_configs['slowfast-r50' if 'slowfast' in case else 'vit-b']
    cfg = Config.fromfile(config).model
    cfg.backbone.pop('pretrained', None)
    cfg.backbone.pop('init_cfg', None)
    model = MODELS.build(cfg)
    official = cycleacr_names.official(model.state_dict())
    assert {key: list(value.shape) for key, value in official.items()} == {
        key: recipe['shape'] for key, recipe in recorded.items()
    }


@pytest.mark.parametrize('prefix', ['', 'module.'], ids=['plain', 'distributed'])
@pytest.mark.parametrize('name', BACKBONES)
def test_official_file_loads_directly_and_strictly(narrow, tmp_path, name, prefix):
    path, config = tmp_path / 'model_final.pth', narrow(name)
    want = _model(config, 1).state_dict()
    official = cycleacr_names.official(want)
    key = 'roi_heads.action.feature_extractor.cycleacr_module.instance_interaction.m_blocks.0.temporal_position_k'
    assert official[key].dim() == 6
    torch.save(dict(model={prefix + key: value for key, value in official.items()}, iteration=50000), path)
    model = _model(config, 2)
    load_checkpoint(model, str(path), strict=True)
    got = model.state_dict()
    for key, value in want.items():
        assert key.endswith('num_batches_tracked') or torch.equal(got[key], value), key


@pytest.mark.parametrize('name', BACKBONES)
def test_own_checkpoint_passes_unchanged(narrow, name):
    own = _model(narrow(name), 1).state_dict()
    conversion = convert_state_dict(own)
    _assert_same(conversion.state_dict, own)
    assert not conversion.dropped


def _convert(*args: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-W', 'ignore', ROOT / 'tools' / 'convert_checkpoint.py', 'cycleacr', *args]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_file_with_a_person_pool(narrow, tmp_path):
    """As official training writes it: refused by the ordinary loader, which names the tool; the tool converts it."""
    source, out, config = tmp_path / 'model_0100.pth', tmp_path / 'converted.pth', narrow('vit-b')
    want = _model(config, 1).state_dict()
    torch.save(dict(model=cycleacr_names.official(want), epoch=3, person_pool=MemoryPool()), source)
    with pytest.raises(ValueError, match=r'model_0100\.pth.*tools/convert_checkpoint\.py'):
        load_checkpoint(_model(config, 2), str(source))
    done = _convert(source, out, '--config', config)
    assert done.returncode == 0, done.stderr
    assert re.search(r'not built  .*MemoryPool \(1x\)', done.stdout) and 'loads strictly into' in done.stdout
    model = _model(config, 2)
    load_checkpoint(model, str(out), strict=True)
    _assert_same(model.state_dict(), want)


@pytest.mark.parametrize(('name', 'other'), [('vit-b', 'slowfast-r50'), ('slowfast-r50', 'vit-b')])
def test_checkpoint_of_another_backbone_is_not_taken_silently(narrow, tmp_path, name, other):
    path = tmp_path / 'model.pth'
    torch.save(dict(model=cycleacr_names.official(_model(narrow(other), 1).state_dict())), path)
    with pytest.raises((ValueError, RuntimeError), match=r'another model|size mismatch|Missing key'):
        load_checkpoint(_model(narrow(name), 2), str(path))


def test_pretrained_slowfast(narrow, tmp_path):
    """A file of the AlphAction model zoo: a whole detector whose head is left alone, or the backbone by itself."""
    path, config = tmp_path / 'slowfast.pth', narrow('slowfast-r50')
    want = _model(config, 1).backbone.state_dict()
    official = cycleacr_names.official({f'backbone.{key}': value for key, value in want.items()})
    head = {'roi_heads.action.predictor.cls_score.bias': torch.ones(80)}
    bare = {key.removeprefix('backbone.'): value for key, value in official.items()}
    for weights in ({**official, **head}, bare):
        torch.save(dict(model=weights), path)
        cfg = Config.fromfile(config).model
        cfg.backbone.pretrained = str(path)
        backbone = MODELS.build(cfg).backbone
        backbone.init_weights()
        for key, value in want.items():
            assert key.endswith('num_batches_tracked') or torch.equal(backbone.state_dict()[key], value), key


def test_pretrained_videomae(narrow, tmp_path):
    """Fine-tuned on Kinetics: names of an encoder, a classifier, and ``fc_norm`` in place of the last norm."""
    path, config = tmp_path / 'vit.pth', narrow('vit-b')
    want = _model(config, 1).backbone.state_dict()
    official = cycleacr_names.official({f'backbone.{key}': value for key, value in want.items()})
    weights = {f'encoder.{key}': value for key, value in official.items() if not key.startswith('norm.')}
    weights |= {'fc_norm.weight': torch.ones(48), 'head.weight': torch.ones(700, 48), 'head.bias': torch.ones(700)}
    torch.save(dict(model=weights), path)
    cfg = Config.fromfile(config).model
    cfg.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    backbone = MODELS.build(cfg).backbone
    backbone.init_weights()
    got = backbone.state_dict()
    for key, value in want.items():
        if key.startswith('norm.'):
            value = torch.full_like(value, float(key == 'norm.weight'))
        assert torch.equal(got[key], value), key
