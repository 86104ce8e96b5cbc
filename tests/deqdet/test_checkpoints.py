"""Official checkpoints load, directly and converted; anything else is refused with a reason."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint

from mvbench_plugins.common.checkpoint import Rule, apply_rules, load_local_checkpoint
from mvbench_plugins.common.inert_unpickler import load_inert

ROOT = Path(__file__).resolve().parents[2]
TO_OFFICIAL = (
    (r'\.attention\.(in_proj|out_proj)', r'.attention.attn.\1'),
    (r'\.sampling_offset\.', r'.sampling_n_mixing.sampling_offset_generator.0.'),
    (r'\.mixing\.parameter_generator\.', r'.sampling_n_mixing.adaptive_mixing.parameter_generator.0.'),
    (r'\.mixing\.out_proj\.', r'.sampling_n_mixing.adaptive_mixing.out_proj.'),
    (r'\.mixing_norm\.', r'.sampling_n_mixing.norm.'),
)
UNUSED = 'roi_head.bbox_head.1.instance_interactive_conv.norm_in.weight'


class PoolNode(dict):
    """An object of a foreign code base."""


class RunsCode:
    def __reduce__(self):
        return os.system, (f'touch {RunsCode.marker}',)


def _official(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's weights as an official file would hold them."""
    weights = collections.OrderedDict()
    for key, value in model.state_dict().items():
        for pattern, replacement in TO_OFFICIAL:
            if key.startswith('roi_head.'):
                key = re.sub(pattern, replacement, key)
        weights[key] = value
    weights[UNUSED] = torch.ones(4)
    return weights


@pytest.fixture
def official_file(build, tmp_path) -> Path:
    path = tmp_path / 'official.pth'
    torch.save(dict(state_dict=_official(build()), meta=dict(epoch=24)), path)
    return path


def _reinitialised(build) -> torch.nn.Module:
    model = build()
    for p in model.parameters():
        p.data.zero_()
    return model


def test_official_file_loads_directly_and_strictly(build, official_file):
    model = _reinitialised(build)
    load_checkpoint(model, str(official_file), strict=True)
    for (name, got), want in zip(model.state_dict().items(), build().state_dict().values(), strict=True):
        assert torch.equal(got, want), name


def _convert(*args: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-W', 'ignore', ROOT / 'tools' / 'convert_checkpoint.py', 'deqdet', *args]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_conversion_tool(build, small_model, tmp_path):
    """Foreign objects beside the weights are named, never built; the result loads strictly into the config."""
    RunsCode.marker = tmp_path / 'code was run'
    weights = _official(build())
    source, out = tmp_path / 'released.pth', tmp_path / 'new' / 'converted.pth'
    meta = dict(dataset_meta=dict(classes=('disc',)), cfg=PoolNode(a=1))
    torch.save(dict(state_dict=weights, meta=meta, pool=RunsCode()), source)
    config = tmp_path / 'config.py'
    small_model.dump(config)
    done = _convert(source, out, '--config', config)
    assert done.returncode == 0, done.stderr
    assert not RunsCode.marker.exists()
    assert f'left out   {UNUSED}' in done.stdout
    assert re.search(r'not built  .*PoolNode \(1x\)', done.stdout) and 'not built  posix.system (1x)' in done.stdout
    assert load_local_checkpoint(str(out))['meta']['dataset_meta'] == dict(classes=('disc',))
    model = _reinitialised(build)
    load_checkpoint(model, str(out), strict=True)
    assert torch.equal(model.roi_head.bbox_head[1].iof_tau, build().roi_head.bbox_head[1].iof_tau)


def test_conversion_fails_on_what_does_not_fit(build, small_model, tmp_path):
    weights = _official(build())
    weights['extra.weight'] = torch.ones(2)
    del weights['neck.gn_out.bias']
    weights['roi_head.bbox_head.0.fc_cls.bias'] = torch.ones(80)
    source, out = tmp_path / 'released.pth', tmp_path / 'converted.pth'
    torch.save(dict(state_dict=weights), source)
    small_model.dump(tmp_path / 'config.py')
    done = _convert(source, out, '--config', tmp_path / 'config.py')
    assert done.returncode == 1 and not out.exists()
    for line in (
        'missing     neck.gn_out.bias',
        'unknown     extra.weight',
        'shape       roi_head.bbox_head.0.fc_cls.bias',
    ):
        assert line in done.stderr
    assert str(source) in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
def test_inert_loading_runs_nothing_and_keeps_tensors(tmp_path, legacy):
    RunsCode.marker = tmp_path / 'code was run'
    path = tmp_path / 'hostile.pth'
    half = torch.arange(6, dtype=torch.float16).view(2, 3)
    content = dict(
        weights=collections.OrderedDict(a=half.t(), b=torch.nn.Parameter(torch.ones(2))),
        numbers=[1, 2.5, 'x', {3}],
        numpy=half.numpy(),
        evil=[RunsCode(), PoolNode(x=1)],
        hook=print,
    )
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    loaded, replaced = load_inert(path)
    assert not RunsCode.marker.exists()
    assert torch.equal(loaded['weights']['a'], half.t()) and torch.equal(loaded['weights']['b'], torch.ones(2))
    assert loaded['numbers'] == [1, 2.5, 'x', {3}] and (loaded['numpy'] == half.numpy()).all()
    # Old pickle protocols call the module of built-in functions __builtin__.
    assert {name.replace('__builtin__', 'builtins') for name in replaced} == {
        'posix.system',
        f'{__name__}.PoolNode',
        'builtins.print',
    }


def test_hostile_file_is_refused_by_the_ordinary_loader(tmp_path):
    RunsCode.marker = tmp_path / 'code was run'
    path = tmp_path / 'hostile.pth'
    torch.save(dict(state_dict={}, evil=RunsCode()), path)
    with pytest.raises(ValueError, match=r'hostile\.pth.*convert_checkpoint\.py'):
        load_local_checkpoint(str(path))
    assert not RunsCode.marker.exists()


def test_another_class_count_still_loads(build, tmp_path):
    """Fine-tuning on one's own classes: everything but the class layer is taken over."""
    path = tmp_path / 'coco.pth'
    torch.save(dict(state_dict=build().state_dict()), path)
    model = build(bbox_head=dict(num_classes=3))
    load_checkpoint(model, str(path))
    assert torch.equal(model.roi_head.bbox_head[1].fc_reg.weight, build().roi_head.bbox_head[1].fc_reg.weight)


def test_rules_that_collide_are_an_error():
    with pytest.raises(ValueError, match='same|would be named'):
        apply_rules({'a.x': torch.ones(1), 'b.x': torch.ones(1)}, [Rule(r'[ab]\.x', 'c')])
