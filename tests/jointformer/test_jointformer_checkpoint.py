"""Official files load, directly and converted, and so do those of ConvMAE; anything else is refused with a reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jointformer_videos import DIMS, MODEL, build
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from mvbench_plugins.jointformer.checkpoint import convert_state_dict

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / 'tests' / 'parity' / 'cases' / 'jointformer'
EXTRA = 'backbone.patch_embed1_memory.proj.weight'


def official(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of official files, written down a second time."""
    return {
        re.sub(r'^mask_head\.', 'decoder.', re.sub(r'^backbone\.', 'convmae.', name)): value
        for name, value in weights.items()
    }


def convmae(model: nn.Module, mark: float = 0.0) -> dict[str, Tensor]:
    """What a ConvMAE file has: the encoder, a position grid of another size, and the decoder of its pretext task."""
    kept = ('patch_embed1_query.', 'patch_embed2.', 'patch_embed3.', 'patch_embed4.', 'blocks1.', 'blocks2.')
    kept += ('blocks3.', 'norm.')
    weights = {
        name.replace('patch_embed1_query', 'patch_embed1'): value + mark
        for name, value in model.backbone.state_dict().items()
        if name.startswith(kept)
    }
    extra = dict(pos_embed=torch.zeros(1, 9, DIMS[2]), mask_token=torch.zeros(1, 1, 8))
    extra['decoder_blocks.0.norm1.weight'] = torch.zeros(8)
    extra['stage1_output_decode.weight'] = torch.zeros(8, 8, 4, 4)
    return weights | extra


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def save(path: Path, content: dict) -> str:
    torch.save(content, path)
    return str(path)


def test_names_of_released_files():
    """The recorded names and shapes, all 288, give those of the released model."""
    recorded = json.loads((CASES / 'train_main.json').read_text())['state_dict']
    assert len(recorded) == 288
    cfg = Config.fromfile(ROOT / 'configs' / 'jointformer' / '_base_' / 'jointformer.py').model
    with torch.device('meta'):
        model = MODELS.build(dict(cfg, data_preprocessor=None))
    converted, dropped = convert_state_dict({name: torch.empty(spec['shape']) for name, spec in recorded.items()})
    assert not dropped
    assert {name: tuple(value.shape) for name, value in converted.items()} == {
        name: tuple(value.shape) for name, value in model.state_dict().items()
    }


@pytest.mark.parametrize('nested', [False, True])
def test_official_file_loads_directly(tmp_path, nested):
    want = build(seed=1).state_dict()
    weights = official(want)
    path = save(tmp_path / 'jointformer_s02.pth', dict(model=weights) if nested else weights)
    model = build(seed=2)
    load_checkpoint(model, path, strict=True)
    assert_same(model.state_dict(), want)
    load_checkpoint(model, save(tmp_path / 'ours.pth', dict(state_dict=want)), strict=True)
    assert_same(model.state_dict(), want)


def test_stage_0_file_in_a_model_of_several_objects(tmp_path):
    """The fifth channel says nothing: each time the same model, which takes no notice of other objects."""
    source = build(seed=1, backbone=dict(mask_channels=1)).state_dict()
    path = save(tmp_path / 'jointformer_s0.pth', official(source))
    models = [build(seed=seed) for seed in (2, 3)]
    for model in models:
        load_checkpoint(model, path)
    assert_same(models[0].state_dict(), models[1].state_dict())
    grown = models[0].state_dict()[EXTRA]
    assert torch.equal(grown[:, :4], source[EXTRA]) and not grown[:, 4].any() and grown.shape[1] == 5


@pytest.mark.parametrize('mask_channels', [1, 2])
def test_start_from_convmae(tmp_path, mask_channels):
    source = build(seed=1)
    weights = convmae(source)
    path = save(tmp_path / 'convmae_base.pth', dict(model=weights))
    initial = dict(type='Pretrained', checkpoint=path)
    model = build(seed=2, lively=False, backbone=dict(mask_channels=mask_channels, init_cfg=initial))
    found = model.backbone.state_dict()
    first = weights['patch_embed1.proj.weight']
    memory = found['patch_embed1_memory.proj.weight']
    assert torch.equal(found['patch_embed1_query.proj.weight'], first) and torch.equal(memory[:, :3], first)
    assert memory.shape[1] == 3 + mask_channels and 0.015 < memory[:, 3:].std() < 0.025
    for name in ('patch_embed4', 'patch_embed4_block4', 'patch_embed4_block5'):
        assert torch.equal(found[f'{name}.weight'], weights['patch_embed4.weight'])
    for ours, theirs in (('blocks4.0', 1), ('blocks4.1', 2), ('blocks5.0', 2), ('blocks3.0', 0)):
        for part in ('attn.qkv.weight', 'mlp.fc2.bias', 'norm1.weight'):
            assert torch.equal(found[f'{ours}.{part}'], weights[f'blocks3.{theirs}.{part}']), (ours, part)
    assert torch.equal(found['norm.weight'], weights['norm.weight'])
    fresh = build(seed=2, lively=False).backbone
    assert torch.equal(found['pos_embed'], fresh.pos_embed) and found['cls_token'].std() > 0


def test_backbone_of_an_official_file(tmp_path):
    source = build(seed=1)
    path = save(tmp_path / 'jointformer_s2.pth', official(source.state_dict()))
    initial = dict(type='Pretrained', checkpoint=path, prefix='convmae.')
    model = build(seed=2, lively=False, backbone=dict(init_cfg=initial))
    assert_same(model.backbone.state_dict(), source.backbone.state_dict())


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(token_depth=3), r'unknown backbone\.blocks4\.2\..*token_depth'),
        (dict(enhance_depth=2), r'unknown backbone\.blocks5\.1\..*enhance_depth'),
        (dict(depths=(1, 1, 4)), r'unknown backbone\.blocks3\.3\..*depths'),
        (dict(mask_channels=3), r'patch_embed1_memory\.proj\.weight \[16, 6, 4, 4\], the model has .*mask_channels'),
    ],
)
def test_files_of_other_settings_are_refused(tmp_path, settings, words):
    """Mmengine would load what fits, keep random weights for the rest, and only log it."""
    path = save(tmp_path / 'other.pth', official(build(backbone=settings).state_dict()))
    with pytest.raises(ValueError, match=rf'other\.pth does not fit this JointFormer: .*{words}.*Use the config'):
        load_checkpoint(build(), path)


def test_convmae_file_is_no_model(tmp_path):
    path = save(tmp_path / 'convmae_base.pth', dict(model=convmae(build())))
    with pytest.raises(ValueError, match=r'convmae_base\.pth holds weights of another model.*init_cfg'):
        load_checkpoint(build(), path)


def test_other_file_is_no_backbone(tmp_path):
    path = save(tmp_path / 'resnet.pth', {'layer1.0.conv1.weight': torch.zeros(4, 4, 3, 3)})
    with pytest.raises(ValueError, match=r'resnet\.pth holds weights of another model.*JointConvMAE'):
        build(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=path)))


def test_objects_in_a_file_are_not_built(tmp_path):
    path = save(tmp_path / 'odd.pth', dict(official(build().state_dict()), hook=nn.Linear(1, 1)))
    with pytest.raises(ValueError, match=r'odd\.pth contains Python objects besides tensors and was refused'):
        load_checkpoint(build(), path)


def convert(*args: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-W', 'ignore', ROOT / 'tools' / 'convert_checkpoint.py', 'jointformer', *args]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_conversion_of_an_official_file(tmp_path):
    plugin = dict(imports=['mvbench_plugins.jointformer'])
    config = tmp_path / 'small.py'
    Config(dict(default_scope='mmdet', custom_imports=plugin, model=MODEL)).dump(config)
    want = build(seed=1).state_dict()
    source, out = tmp_path / 'jointformer_s012.pth', tmp_path / 'converted.pth'
    torch.save(official(want), source)
    done = convert(source, out, '--config', config)
    assert done.returncode == 0, done.stderr
    assert 'loads strictly into' in done.stdout
    assert_same(torch.load(out, weights_only=True)['state_dict'], want)

    torch.save(official(build(seed=1, backbone=dict(mask_channels=1)).state_dict()), source)
    assert convert(source, out, '--config', config).returncode == 0
    grown = torch.load(out, weights_only=True)['state_dict'][EXTRA]
    assert grown.shape[1] == 5 and not grown[:, 4].any()

    torch.save(official(build(backbone=dict(token_depth=1)).state_dict()), source)
    done = convert(source, out, '--config', config)
    assert done.returncode == 1 and 'missing     backbone.blocks4.1.norm1.weight' in done.stderr
