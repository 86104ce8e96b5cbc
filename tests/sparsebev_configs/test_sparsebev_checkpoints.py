"""Official models and pretrained detectors load, directly and converted; anything else is refused with a reason."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from mmdet3d.registry import MODELS
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from official_models import NARROW, assert_same, official_names, random_model
from test_sparsebev_configs import EVA02, R50, R50_400, R101, VOV99
from torch import Tensor, nn

from mvbench_plugins.sparsebev.checkpoint import convert_state_dict, convert_version

ROOT = Path(__file__).resolve().parents[2]
LAYER = 'pts_bbox_head.decoder.layer.'
CASES = ROOT / 'tests' / 'parity' / 'cases' / 'sparsebev'


@pytest.mark.parametrize('case', ['inference_r50_704x256', 'train_r50_704x256'])
def test_recorded_official_entries_are_those_of_the_model(models, case):
    """Names and shapes of the published model, without memory for the weights: exactly those of ours."""
    recorded = {k: v['shape'] for k, v in json.loads((CASES / f'{case}.json').read_text())['state_dict'].items()}
    ours = {key: list(value.shape) for key, value in models[R50][1].state_dict().items()}
    converted, dropped = convert_state_dict({key: torch.empty(shape, device='meta') for key, shape in recorded.items()})
    assert {key: list(value.shape) for key, value in converted.items()} == ours and len(ours) == 384
    # Of the loss, whose weights the config sets.
    assert {key: list(value.shape) for key, value in dropped.items()} == {'pts_bbox_head.code_weights': [10]}
    # The naming of the tests below rests on the same lists.
    assert {key: list(value.shape) for key, value in official_names(models[R50][1].state_dict()).items()} == recorded


@pytest.mark.parametrize(
    ('name', 'kind'),
    [(R50_400, 'r50'), (R101, 'r50'), (VOV99, 'vov99_future'), (EVA02, 'eva02-l_future')],
)
def test_entries_of_the_other_released_models(models, name, kind):
    """The examples of section 7, and back to our names."""
    own = models[name][1].state_dict()
    official = official_names(own, kind)
    examples = {
        'r50': ['img_neck.fpn_convs.3.conv.bias'],
        'vov99_future': [
            'img_backbone.stem.stem_2/conv.weight',
            'img_backbone.stage4.OSA4_9.layers.4.OSA4_9_4/norm.running_var',
            'img_backbone.stage3.OSA3_1.concat.OSA3_1_concat/conv.weight',
            'img_backbone.stage5.OSA5_3.ese.fc.bias',
        ],
        'eva02-l_future': [
            'img_backbone.backbone.net.patch_embed.proj.weight',
            'img_backbone.backbone.net.pos_embed',
            'img_backbone.backbone.net.blocks.23.attn.q_bias',
            'img_backbone.backbone.net.blocks.23.attn.k_proj.weight',
            'img_backbone.backbone.net.blocks.0.mlp.ffn_ln.weight',
            'img_backbone.backbone.simfp_2.5.norm.weight',
        ],
    }[kind]
    examples += [f'pts_bbox_head.transformer.decoder.decoder_layer.{part}.weight' for part in (
        'position_encoder.4', 'self_attn.attention.attn.out_proj', 'self_attn.gen_tau', 'sampling.sampling_offset',
        'sampling.scale_weights', 'mixing.parameter_generator', 'mixing.out_proj', 'ffn.layers.0.0', 'ffn.layers.1',
        'norm3', 'cls_branch.6', 'reg_branch.4',
    )]  # fmt: skip
    assert set(examples) <= set(official)
    converted, dropped = convert_state_dict(official)
    assert {key: value.shape for key, value in converted.items()} == {key: value.shape for key, value in own.items()}
    assert all('.rope' in key or 'code_weights' in key for key in dropped) and len(dropped) == 1 + 2 * (name == EVA02)


@pytest.mark.parametrize('prefix', ['', 'module.'], ids=['plain', 'distributed'])
@pytest.mark.parametrize('kind', NARROW)
def test_official_file_loads_directly_and_strictly(narrow, tmp_path, kind, prefix):
    path, want = tmp_path / 'latest.pth', random_model(narrow(kind), 1).state_dict()
    official = {prefix + key: value for key, value in official_names(want, kind).items()}
    torch.save(dict(meta=dict(epoch=24, iter=84408), state_dict=official, optimizer=dict(state={})), path)
    model = random_model(narrow(kind), 2)
    load_checkpoint(model, str(path), strict=True)
    assert_same(model.state_dict(), want)


def test_training_from_an_official_file_weighs_boxes_as_the_config_says(narrow, tmp_path):
    path, cfg = tmp_path / 'latest.pth', Config.fromfile(narrow()).model
    torch.save(dict(state_dict=official_names(random_model(narrow(), 1).state_dict())), path)
    cfg.pts_bbox_head.code_weights = weights = [1.0] * 6 + [3.0] * 4
    model = MODELS.build(cfg)
    load_checkpoint(model, str(path), strict=True)
    assert model.pts_bbox_head.code_weights.tolist() == weights


@pytest.mark.parametrize('prefix', ['', 'module.'], ids=['plain', 'distributed'])
@pytest.mark.parametrize('kind', NARROW)
def test_own_checkpoint_passes_unchanged(narrow, kind, prefix):
    own = random_model(narrow(kind), 1).state_dict()
    converted, dropped = convert_state_dict({prefix + key: value for key, value in own.items()})
    assert_same(converted, own)
    assert not dropped


def _detector_file(kind: str, backbone: dict[str, Tensor]) -> dict:
    """A detector of nuImages, DD3D or EVA-02, with this backbone."""
    official = official_names({f'img_backbone.{key}': value for key, value in backbone.items()}, kind)
    if kind == 'vov99_future':
        return dict(state_dict={**official, 'det_head.weight': torch.ones(3)})
    heads = {'roi_heads.box_head.weight': torch.ones(3), 'proposal_generator.rpn.bias': torch.ones(3)}
    if kind == 'eva02-l_future':
        official = {key.removeprefix('img_backbone.'): value for key, value in official.items()}
        return dict(model={**official, **heads}, iteration=1)
    official = {key.removeprefix('img_'): value for key, value in official.items()}
    # The width of its neck happens to be that of ours.
    neck = {
        f'neck.lateral_convs.0.conv.{name}': torch.ones(shape)
        for name, shape in (('weight', (32, 8, 1, 1)), ('bias', 32))
    }
    return dict(meta={}, state_dict={**official, **neck, 'roi_head.bbox_head.0.fc_cls.bias': torch.ones(11)})


@pytest.mark.parametrize('kind', NARROW)
def test_pretrained_detector_gives_its_backbone_only(narrow, tmp_path, kind):
    """As the configs load it; everything else keeps its initial values."""
    path, source = tmp_path / 'detector.pth', random_model(narrow(kind), 1).img_backbone.state_dict()
    torch.save(_detector_file(kind, source), path)
    cfg = Config.fromfile(narrow(kind)).model
    prefix = dict(r50='backbone.', vov99_future='img_backbone.').get(kind)
    models = []
    for init_cfg in (None, dict(type='Pretrained', checkpoint=str(path), prefix=prefix)):
        torch.manual_seed(5)
        cfg.img_backbone.init_cfg = init_cfg
        models.append(MODELS.build(cfg))
        for part in ('img_backbone', 'img_neck', 'pts_bbox_head'):
            torch.manual_seed(6)
            if getattr(models[-1], part) is not None:
                getattr(models[-1], part).init_weights()
    before, after = (model.state_dict() for model in models)
    assert_same(
        {k: v for k, v in after.items() if 'img_backbone' not in k},
        {k: v for k, v in before.items() if 'img_backbone' not in k},
    )
    assert_same(models[1].img_backbone.state_dict(), source)


@pytest.mark.parametrize('kind', NARROW)
def test_pretrained_detector_is_no_model(narrow, tmp_path, kind):
    """As a checkpoint to test or to resume from: refused, not loaded in part."""
    path = tmp_path / 'detector.pth'
    torch.save(_detector_file(kind, random_model(narrow(kind), 1).img_backbone.state_dict()), path)
    with pytest.raises(
        ValueError, match=r'detector\.pth holds no head of this SparseBEV: 0 of .*img_backbone\.init_cfg'
    ):
        load_checkpoint(random_model(narrow(kind), 2), str(path))


def test_another_detector_with_the_same_backbone_is_refused(narrow, tmp_path):
    """Of the family of DETR3D: the same names of parts, another head."""
    path, weights = tmp_path / 'detr3d.pth', random_model(narrow(), 1).state_dict()
    weights = {key: value for key, value in weights.items() if not key.startswith('pts_bbox_head.')}
    weights['pts_bbox_head.cls_branches.0.0.weight'] = torch.ones(32, 32)
    torch.save(dict(state_dict=weights), path)
    with pytest.raises(ValueError, match=r'detr3d\.pth holds no head of this SparseBEV'):
        load_checkpoint(random_model(narrow(), 2), str(path))


def test_file_of_nothing_known_is_refused(narrow, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'encoder.weight': torch.ones(3)}), path)
    with pytest.raises(ValueError, match=r'other\.pth holds weights of another model'):
        load_checkpoint(random_model(narrow(), 2), str(path))


def _changed(config: Path, **options) -> nn.Module:
    """The model of a config with other settings."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(model=options))
    return MODELS.build(cfg.model)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(pts_bbox_head=dict(num_query=36)),
            r'pts_bbox_head\.init_query_bbox\.weight is \[16, 10\], expected \[36, 10\] \(num_query\)\. Use the config',
        ),
        (
            dict(pts_bbox_head=dict(num_frames=1)),
            r'mixing\.parameter_generator\.weight is .*\(num_frames x num_points\); .*generator\.bias is .*\)\. Use',
        ),
        (
            dict(pts_bbox_head=dict(num_levels=5), img_neck=dict(num_outs=5)),
            r'sampling\.scale_weights\.weight is \[32, 32\], expected \[40, 32\] \(num_levels x num_points\); ',
        ),
        # Just as many points to be mixed: only the offsets and the level weights tell.
        (
            dict(pts_bbox_head=dict(num_frames=1, num_points=8)),
            r'sampling\.sampling_offset\.weight is \[24, 32\], expected \[48, 32\] \(num_points\); ',
        ),
        # Eight more blocks of two convolutions and two norms.
        (
            dict(img_backbone=dict(depth=34)),
            r'(img_backbone\.layer1\.2\.\S+ is not in the file; ){6}and 74 more\. Use the config',
        ),
    ],
    ids=['queries', 'frames', 'levels', 'points', 'depth'],
)
def test_file_of_other_settings_is_refused(narrow, tmp_path, options, message):
    """Most of its entries fit, the rest would keep random weights."""
    path = tmp_path / 'released.pth'
    torch.save(dict(meta={}, state_dict=official_names(random_model(narrow(), 1).state_dict())), path)
    model = _changed(narrow(), **options)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf'released\.pth is of a SparseBEV with other settings: .*{message}'):
        load_checkpoint(model, str(path))
    assert_same(model.state_dict(), before)


def test_file_of_a_deeper_backbone_is_refused(narrow, tmp_path):
    path, deeper = tmp_path / 'released.pth', _changed(narrow(), img_backbone=dict(depth=34))
    torch.save(dict(meta={}, state_dict=deeper.state_dict()), path)
    with pytest.raises(ValueError, match=r'(img_backbone\.layer1\.2\.\S+ is not in the model; ){6}and 74 more'):
        load_checkpoint(random_model(narrow(), 2), str(path))


def test_file_of_other_classes_loads(narrow, tmp_path):
    """To be trained on: what depends on the classes keeps its own weights, with mmengine's warning."""
    path, model = tmp_path / 'released.pth', random_model(narrow(), 1)
    torch.save(dict(meta={}, state_dict=model.state_dict()), path)
    other = _changed(narrow(), pts_bbox_head=dict(num_classes=3))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    load_checkpoint(other, str(path))
    kept = {f'{LAYER}cls_branch.6.weight', f'{LAYER}cls_branch.6.bias', 'pts_bbox_head.label_enc.weight'}
    assert_same(other.state_dict(), {**model.state_dict(), **{key: before[key] for key in kept}})


@pytest.fixture(scope='module')
def convert() -> Callable[..., None]:
    """What ``tools/convert_checkpoint.py`` calls."""
    spec = importlib.util.spec_from_file_location('convert_checkpoint', ROOT / 'tools' / 'convert_checkpoint.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert 'sparsebev' in tool.PLUGINS
    return partial(tool.convert, 'sparsebev')


def test_conversion_of_an_official_file(narrow, tmp_path, convert, capsys):
    """With the version that its boxes are of; the result is a file like any other."""
    source, out, own = tmp_path / 'r50.pth', tmp_path / 'converted.pth', random_model(narrow(), 1).state_dict()
    torch.save(dict(meta={}, state_dict=official_names(own), optimizer=dict(state={}), version='v0.17.1'), source)
    convert(source, out, narrow())
    said = capsys.readouterr().out
    assert 'version    v0.17.1' in said and 'loads strictly into' in said
    model = random_model(narrow(), 2)
    load_checkpoint(model, str(out), strict=True)
    assert_same(model.state_dict(), convert_version(own, 'v0.17.1'))


def test_conversion_of_a_file_of_unknown_version(narrow, tmp_path, convert):
    source, out = tmp_path / 'r50.pth', tmp_path / 'converted.pth'
    torch.save(dict(state_dict=official_names(random_model(narrow(), 1).state_dict()), version='v0.9'), source)
    with pytest.raises(ValueError, match=r"r50\.pth: entry \"version\": found 'v0\.9', expected"):
        convert(source, out, narrow())
    assert not out.exists()


def test_conversion_of_a_pretrained_detector(narrow, tmp_path, convert, capsys):
    source, out, backbone = tmp_path / 'nuim.pth', tmp_path / 'backbone.pth', random_model(narrow(), 1).img_backbone
    torch.save(_detector_file('r50', backbone.state_dict()), source)
    convert(source, out, narrow())
    said = capsys.readouterr().out
    assert 'left out   roi_head.bbox_head.0.fc_cls.bias [11]' in said and 'as its backbone' in said
    converted = torch.load(out, weights_only=True)['state_dict']
    assert_same(converted, {f'img_backbone.{key}': value for key, value in backbone.state_dict().items()})


def test_nothing_is_written_for_another_config(narrow, tmp_path, convert):
    source, out = tmp_path / 'vov99.pth', tmp_path / 'converted.pth'
    torch.save(
        dict(state_dict=official_names(random_model(narrow('vov99_future'), 1).state_dict(), 'vov99_future')), source
    )
    with pytest.raises(ValueError, match=r'nothing was written(.|\n)*unknown     img_backbone\.stage2\.block1\.ese'):
        convert(source, out, narrow())
    assert not out.exists()
