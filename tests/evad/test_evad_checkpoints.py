"""Official models and pretrained encoders load, directly and converted; anything else is refused with a reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from mvbench_plugins.evad.checkpoint import convert_backbone_state_dict, convert_state_dict

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / 'tests' / 'parity' / 'cases' / 'evad'

# Our names to those of official files, written down a second time, from the published naming.
_OFFICIAL = (
    (r'patch_embed\.projection', 'patch_embed.proj'),
    (r'mlp\.layers\.0\.0', 'mlp.fc1'),
    (r'mlp\.layers\.1', 'mlp.fc2'),
    (r'^backbone\.', ''),
    (r'^neck\.lateral_convs\.(\d)\.conv', lambda m: f'fpn_lateral{int(m[1]) + 2}'),
    (r'^neck\.fpn_convs\.(\d)\.conv', lambda m: f'fpn_output{int(m[1]) + 2}'),
    (r'^proposals\.init_proposal_bboxes', 'init_proposal_boxes'),
    (r'^proposals\.', ''),
    (r'^head\.localizer\.stages', 'det_head.s0_headseries'),
    (r'\.attention\.attn\.', '.self_attn.'),
    (r'\.instance_interactive_conv\.norm_in', '.inst_interact.norm1'),
    (r'\.instance_interactive_conv\.norm_out', '.inst_interact.norm2'),
    (r'\.instance_interactive_conv\.fc_norm', '.inst_interact.norm3'),
    (r'\.instance_interactive_conv\.fc_layer', '.inst_interact.out_layer'),
    (r'\.instance_interactive_conv\.', '.inst_interact.'),
    (r'\.attention_norm\.', '.norm1.'),
    (r'\.instance_interactive_conv_norm\.', '.norm2.'),
    (r'\.ffn_norm\.', '.norm3.'),
    (r'\.ffn\.layers\.0\.0\.', '.linear1.'),
    (r'\.ffn\.layers\.1\.', '.linear2.'),
    (r'\.cls_fcs\.', '.cls_module.'),
    (r'\.reg_fcs\.', '.reg_module.'),
    (r'\.fc_cls\.', '.class_logits.'),
    (r'\.fc_reg\.', '.bboxes_delta.'),
    (r'^head\.refinement\.(mask_token|encoder_to_decoder)', r'det_head.\1'),
    (r'^head\.refinement\.blocks', 'det_head.decoder.blocks'),
    (r'^head\.refinement\.action_heads\.(\d+)\.3', r'det_head.decoder.blocks.\1.action_logits'),
    (r'^head\.refinement\.action_heads\.(\d+)\.', r'det_head.decoder.blocks.\1.act_module.'),
)


def _official(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a whole model under official names, with the buffer of the loss."""
    named = {}
    for key, value in weights.items():
        for pattern, replacement in _OFFICIAL:
            key = re.sub(pattern, replacement, key)
        named[key] = value
    return {**named, 'criterion.empty_weight': torch.tensor([1.0, 0.1])}


def _model(config: Path, seed: int) -> nn.Module:
    """Values of its own for every entry, so that none can be taken for another."""
    torch.manual_seed(seed)
    model = MODELS.build(Config.fromfile(config).model)
    for value in model.state_dict().values():
        value.normal_()
    return model


def _assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert set(got) == set(want)
    for name, value in want.items():
        assert torch.equal(got[name], value), name


def _recorded(case: str) -> dict[str, list[int]]:
    recipes = json.loads((CASES / f'{case}.json').read_text())['state_dict']
    return {key: recipe['shape'] for key, recipe in recipes.items()}


def test_recorded_official_entries_are_those_of_the_model(config_dir):
    """Names and shapes of the published model, without memory for the weights: exactly those of ours."""
    cfg = Config.fromfile(config_dir / 'evad' / 'evad_vit-b-ktp-k400-pre_8xb2-16x4x1-12e_ava22-rgb.py').model
    recorded = _recorded('infer_vitb_ktp07')
    assert len(recorded) == 529 and recorded == _recorded('train_vitb_ktp07')
    model = MODELS.build(cfg)
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    converted, dropped = convert_state_dict({key: torch.empty(shape, device='meta') for key, shape in recorded.items()})
    assert {key: list(value.shape) for key, value in converted.items()} == ours
    assert set(dropped) == {'criterion.empty_weight'}
    # The naming of the tests below rests on the same lists.
    assert {key: list(value.shape) for key, value in _official(model.state_dict()).items()} == recorded


@pytest.mark.parametrize('nesting', ['model_state', 'model', 'module', None])
@pytest.mark.parametrize('prefix', ['', 'module.'], ids=['plain', 'distributed'])
def test_official_file_loads_directly_and_strictly(narrow, tmp_path, prefix, nesting):
    path, want = tmp_path / 'model_final.pth', _model(narrow, 1).state_dict()
    official = {prefix + key: value for key, value in _official(want).items()}
    torch.save({'epoch': 11, nesting: official, 'cfg': 'TRAIN: ...'} if nesting else official, path)
    model = _model(narrow, 2)
    load_checkpoint(model, str(path), strict=True)
    _assert_same(model.state_dict(), want)


@pytest.mark.parametrize('prefix', ['', 'module.'], ids=['plain', 'distributed'])
def test_own_checkpoint_passes_unchanged(narrow, prefix):
    own = _model(narrow, 1).state_dict()
    converted, dropped = convert_state_dict({prefix + key: value for key, value in own.items()})
    _assert_same(converted, own)
    assert not dropped


def test_keep_rates_share_their_checkpoints(narrow, tmp_path):
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=_model(narrow, 1).state_dict()), path)
    cfg = Config.fromfile(narrow).model
    cfg.backbone.update(keep_rate=1.0, enhanced_weight=4.0)
    load_checkpoint(MODELS.build(cfg), str(path), strict=True)


def _videomae_file(backbone: nn.Module, kind: str) -> dict:
    """A file of VideoMAE: fine-tuned for classification, or pretrained with the decoder that draws the video."""
    weights = {key.removeprefix('backbone.'): v for key, v in _official(backbone.state_dict()).items()}
    weights.pop('criterion.empty_weight')
    if kind == 'fine-tuned':
        weights['fc_norm.weight'], weights['fc_norm.bias'] = weights.pop('norm.weight'), weights.pop('norm.bias')
        return dict(module={**weights, 'head.weight': torch.ones(400, 64), 'head.bias': torch.ones(400)})
    weights = {f'encoder.{key}': value for key, value in weights.items()}
    decoder = {'encoder_to_decoder.weight': torch.ones(24, 64), 'decoder.blocks.0.norm1.weight': torch.ones(24)}
    return dict(model={**weights, **decoder, 'mask_token': torch.ones(1, 1, 24), 'pos_embed': torch.ones(1, 1568, 64)})


@pytest.mark.parametrize('kind', ['fine-tuned', 'pretrained'])
def test_videomae_file_goes_into_the_backbone_only(narrow, tmp_path, kind):
    path, source = tmp_path / 'vit_b.pth', _model(narrow, 1).backbone
    content = _videomae_file(source, kind)
    assert {'fine-tuned': 'blocks.3.mlp.fc2.bias', 'pretrained': 'encoder.blocks.3.mlp.fc2.bias'}[kind] in next(
        iter(content.values())
    )
    torch.save(content, path)
    cfg = Config.fromfile(narrow).model
    models = []
    for init_cfg in (None, dict(type='Pretrained', checkpoint=str(path))):
        torch.manual_seed(5)
        cfg.backbone.init_cfg = init_cfg
        models.append(MODELS.build(cfg))
        torch.manual_seed(6)
        models[-1].init_weights()
    for key, value in source.state_dict().items():
        if kind == 'fine-tuned' and key.startswith('norm.'):
            value = torch.full_like(value, float(key == 'norm.weight'))
        assert torch.equal(models[1].backbone.state_dict()[key], value), key
    mask_token = models[1].head.refinement.mask_token
    assert mask_token.abs().max() < 1 and mask_token.std() > 0.1, 'not that of the file'


@pytest.mark.parametrize('kind', ['fine-tuned', 'pretrained'])
def test_videomae_file_is_no_model(narrow, tmp_path, kind):
    """As a checkpoint to test or to resume from: refused, not loaded in part."""
    path = tmp_path / 'vit_b.pth'
    torch.save(_videomae_file(_model(narrow, 1).backbone, kind), path)
    with pytest.raises(ValueError, match=r'vit_b\.pth holds weights of another model.*EVAD.*backbone.*init_cfg'):
        load_checkpoint(_model(narrow, 2), str(path))


def test_what_is_left_out_of_a_videomae_file(narrow):
    source = _model(narrow, 1).backbone
    (weights,) = _videomae_file(source, 'pretrained').values()
    converted, dropped = convert_backbone_state_dict(weights)
    _assert_same(converted, source.state_dict())
    assert set(dropped) == {'encoder_to_decoder.weight', 'decoder.blocks.0.norm1.weight', 'mask_token', 'pos_embed'}


def test_backbone_of_an_official_model(narrow, tmp_path):
    """To start another model from an EVAD that was trained: ``prefix`` tells what to take."""
    path, source = tmp_path / 'evad.pth', _model(narrow, 1)
    torch.save(dict(state_dict=source.state_dict()), path)
    cfg = Config.fromfile(narrow).model
    cfg.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    model = MODELS.build(cfg)
    model.init_weights()
    _assert_same(model.backbone.state_dict(), source.backbone.state_dict())


def test_checkpoint_of_another_width_is_not_taken_silently(narrow, tmp_path):
    """An official ViT-L file in a ViT-B config."""
    path = tmp_path / 'large.pth'
    torch.save(dict(model_state=_official(_model(narrow, 1).state_dict())), path)
    cfg = Config.fromfile(narrow)
    narrower = dict(
        backbone=dict(embed_dims=32),
        neck=dict(in_channels=[32] * 4),
        head=dict(refinement=dict(in_channels=32, embed_dims=16)),
    )
    cfg.merge_from_dict(dict(model=narrower))
    with pytest.raises((ValueError, RuntimeError), match=r'another model|size mismatch'):
        load_checkpoint(MODELS.build(cfg.model), str(path), strict=True)


def _convert(*args: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-W', 'ignore', ROOT / 'tools' / 'convert_checkpoint.py', 'evad', *args]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_conversion_of_an_official_file(narrow, tmp_path):
    source, out, want = tmp_path / 'EVAD.pyth', tmp_path / 'converted.pth', _model(narrow, 1).state_dict()
    torch.save(dict(epoch=11, model_state=_official(want), optimizer_state=dict(state={}), cfg='...'), source)
    done = _convert(source, out, '--config', narrow)
    assert done.returncode == 0, done.stderr
    assert 'left out   criterion.empty_weight [2]' in done.stdout and 'loads strictly into' in done.stdout
    model = _model(narrow, 2)
    load_checkpoint(model, str(out), strict=True)
    _assert_same(model.state_dict(), want)
