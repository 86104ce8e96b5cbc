"""Official models and pretrained detectors load, directly and converted; anything else is refused with a reason."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, load_checkpoint
from surround_batches import make_sample
from test_sparsebev_configs import EVA02, R50, R50_400, R101, VOV99
from torch import Tensor, nn

from mvbench_plugins.sparsebev import sampling
from mvbench_plugins.sparsebev.boxes import decode_target_boxes, place_in_metres
from mvbench_plugins.sparsebev.checkpoint import convert_state_dict, convert_version

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = 'http://localhost:9'
LAYER = 'pts_bbox_head.decoder.layer.'
CASES = ROOT / 'tests' / 'parity' / 'cases' / 'sparsebev'

# The released models with narrow layers.
_HEAD = """
        in_channels=32, num_query=16, num_frames=2, num_groups=2, num_heads=2, num_decoder_layers=2,
        feedforward_channels=32, dropout=0.0, denoising=None, bbox_coder=dict(score_threshold=0.0),
"""
NARROW = {
    'r50': f"""
    img_backbone=dict(depth=18, base_channels=8, init_cfg=None),
    img_neck=dict(in_channels=[8, 16, 32, 64], out_channels=32),
    pts_bbox_head=dict({_HEAD}),
""",
    'vov99_future': f"""
    img_backbone=dict(
        stem_channels=(4, 4, 8), conv_channels=(4, 6, 8, 10), out_channels=(8, 12, 16, 20), num_blocks=(1, 2, 1, 1),
        num_convs=2, init_cfg=None,
    ),
    img_neck=dict(in_channels=[8, 12, 16, 20], out_channels=32),
    pts_bbox_head=dict({_HEAD}),
""",
    'eva02-l_future': f"""
    img_backbone=dict(
        embed_dims=48, depth=4, num_heads=3, patch_size=8, window=4, global_blocks=(1, 3), rotary_grid=6,
        out_channels=32, init_cfg=None,
    ),
    pts_bbox_head=dict({_HEAD}),
""",
}

# Our names to those of official files, written down a second time, from the published naming.
_OFFICIAL = (
    (r'^pts_bbox_head\.decoder\.layer\.', 'pts_bbox_head.transformer.decoder.decoder_layer.'),
    (r'\.self_attn\.attention\.', '.self_attn.attention.attn.'),
)
_OFFICIAL_VOVNET = (
    (r'\.stem\.conv(\d)\.conv\.', r'.stem.stem_\1/conv.'),
    (r'\.stem\.conv(\d)\.bn\.', r'.stem.stem_\1/norm.'),
    (r'\.stage(\d)\.block(\d)\.', r'.stage\1.OSA\1_\2.'),
    (r'(OSA\d_\d)\.layers\.(\d)\.', r'\1.layers.\2.\1_\2/'),
    (r'(OSA\d_\d)\.concat\.', r'\1.concat.\1_concat/'),
    (r'/bn\.', '/norm.'),
    (r'\.ese\.', '.ese.fc.'),
)
_OFFICIAL_EVA02 = (
    (r'^img_backbone\.(patch_embed)\.', r'img_backbone.backbone.net.\1.proj.'),
    (r'^img_backbone\.(blocks|pos_embed)', r'img_backbone.backbone.net.\1'),
    (r'\.attn\.([qv])_proj\.bias', r'.attn.\1_bias'),
    (r'^img_backbone\.pyramid\.resample\.(\d)\.', lambda m: f'img_backbone.backbone.simfp_{int(m[1]) + 2}.'),
    (
        r'^img_backbone\.pyramid\.project\.(\d)\.(\d)\.',
        # The projection follows 4, 1, 0 and 1 layers that change the resolution; its norms belong to its convolutions.
        lambda m: (
            f'img_backbone.backbone.simfp_{int(m[1]) + 2}.{(4, 1, 0, 1)[int(m[1])] + int(m[2]) // 2}.'
            + ('norm.' if int(m[2]) % 2 else '')
        ),
    ),
)


def _official(weights: dict[str, Tensor], kind: str = 'r50') -> dict[str, Tensor]:
    """Weights of a whole model under official names."""
    named = {}
    rules = {'r50': (), 'vov99_future': _OFFICIAL_VOVNET, 'eva02-l_future': _OFFICIAL_EVA02}[kind]
    for key, value in weights.items():
        for pattern, replacement in (*_OFFICIAL, *rules):
            key = re.sub(pattern, replacement, key)
        named[key] = value
    if kind == 'eva02-l_future':
        named['img_backbone.backbone.net.rope_win.freqs_cos'] = torch.ones(16, 16)
        named['img_backbone.backbone.net.blocks.0.attn.rope.freqs_sin'] = torch.ones(16, 16)
    return named


@pytest.fixture(scope='session')
def narrow(config_dir, tmp_path_factory) -> Callable[[str], Path]:
    """``narrow(kind)`` is the config file of a small model with that backbone."""
    folder = tmp_path_factory.mktemp('sparsebev')

    def path(kind: str = 'r50') -> Path:
        config, base = folder / f'{kind}.py', config_dir / 'sparsebev' / '_base_' / f'sparsebev_{kind}.py'
        config.write_text(f'_base_ = {str(base)!r}\nmodel = dict({NARROW[kind]})\n')
        return config

    return path


def _model(config: Path, seed: int) -> nn.Module:
    """Values of its own for every entry, so that none can be taken for another."""
    torch.manual_seed(seed)
    model = MODELS.build(Config.fromfile(config).model)
    for value in model.state_dict().values():
        value.normal_() if value.is_floating_point() else value.random_(1000)
    return model


def _assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert set(got) == set(want)
    for name, value in want.items():
        assert torch.equal(got[name], value), name


@pytest.mark.parametrize('case', ['inference_r50_704x256', 'train_r50_704x256'])
def test_recorded_official_entries_are_those_of_the_model(models, case):
    """Names and shapes of the published model, without memory for the weights: exactly those of ours."""
    recorded = {k: v['shape'] for k, v in json.loads((CASES / f'{case}.json').read_text())['state_dict'].items()}
    ours = {key: list(value.shape) for key, value in models[R50][1].state_dict().items()}
    converted, dropped = convert_state_dict({key: torch.empty(shape, device='meta') for key, shape in recorded.items()})
    assert {key: list(value.shape) for key, value in converted.items()} == ours and len(ours) == 385
    assert not dropped
    # The naming of the tests below rests on the same lists.
    assert {key: list(value.shape) for key, value in _official(models[R50][1].state_dict()).items()} == recorded


@pytest.mark.parametrize(
    ('name', 'kind'),
    [(R50_400, 'r50'), (R101, 'r50'), (VOV99, 'vov99_future'), (EVA02, 'eva02-l_future')],
)
def test_entries_of_the_other_released_models(models, name, kind):
    """The examples of section 7, and back to our names."""
    own = models[name][1].state_dict()
    official = _official(own, kind)
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
    assert all('.rope' in key for key in dropped) and len(dropped) == (2 if name == EVA02 else 0)


@pytest.mark.parametrize('prefix', ['', 'module.'], ids=['plain', 'distributed'])
@pytest.mark.parametrize('kind', NARROW)
def test_official_file_loads_directly_and_strictly(narrow, tmp_path, kind, prefix):
    path, want = tmp_path / 'latest.pth', _model(narrow(kind), 1).state_dict()
    official = {prefix + key: value for key, value in _official(want, kind).items()}
    torch.save(dict(meta=dict(epoch=24, iter=84408), state_dict=official, optimizer=dict(state={})), path)
    model = _model(narrow(kind), 2)
    load_checkpoint(model, str(path), strict=True)
    _assert_same(model.state_dict(), want)


@pytest.mark.parametrize('prefix', ['', 'module.'], ids=['plain', 'distributed'])
@pytest.mark.parametrize('kind', NARROW)
def test_own_checkpoint_passes_unchanged(narrow, kind, prefix):
    own = _model(narrow(kind), 1).state_dict()
    converted, dropped = convert_state_dict({prefix + key: value for key, value in own.items()})
    _assert_same(converted, own)
    assert not dropped


def _detector_file(kind: str, backbone: dict[str, Tensor]) -> dict:
    """A detector of nuImages, DD3D or EVA-02, with this backbone."""
    official = _official({f'img_backbone.{key}': value for key, value in backbone.items()}, kind)
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
    path, source = tmp_path / 'detector.pth', _model(narrow(kind), 1).img_backbone.state_dict()
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
    _assert_same(
        {k: v for k, v in after.items() if 'img_backbone' not in k},
        {k: v for k, v in before.items() if 'img_backbone' not in k},
    )
    _assert_same(models[1].img_backbone.state_dict(), source)


@pytest.mark.parametrize('kind', NARROW)
def test_pretrained_detector_is_no_model(narrow, tmp_path, kind):
    """As a checkpoint to test or to resume from: refused, not loaded in part."""
    path = tmp_path / 'detector.pth'
    torch.save(_detector_file(kind, _model(narrow(kind), 1).img_backbone.state_dict()), path)
    with pytest.raises(
        ValueError, match=r'detector\.pth holds no head of this SparseBEV: 0 of .*img_backbone\.init_cfg'
    ):
        load_checkpoint(_model(narrow(kind), 2), str(path))


def test_another_detector_with_the_same_backbone_is_refused(narrow, tmp_path):
    """Of the family of DETR3D: the same names of parts, another head."""
    path, weights = tmp_path / 'detr3d.pth', _model(narrow(), 1).state_dict()
    weights = {key: value for key, value in weights.items() if not key.startswith('pts_bbox_head.')}
    weights['pts_bbox_head.cls_branches.0.0.weight'] = torch.ones(32, 32)
    torch.save(dict(state_dict=weights), path)
    with pytest.raises(ValueError, match=r'detr3d\.pth holds no head of this SparseBEV'):
        load_checkpoint(_model(narrow(), 2), str(path))


def test_file_of_nothing_known_is_refused(narrow, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'encoder.weight': torch.ones(3)}), path)
    with pytest.raises(ValueError, match=r'other\.pth holds weights of another model'):
        load_checkpoint(_model(narrow(), 2), str(path))


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
    torch.save(dict(meta={}, state_dict=_official(_model(narrow(), 1).state_dict())), path)
    model = _changed(narrow(), **options)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf'released\.pth is of a SparseBEV with other settings: .*{message}'):
        load_checkpoint(model, str(path))
    _assert_same(model.state_dict(), before)


def test_file_of_a_deeper_backbone_is_refused(narrow, tmp_path):
    path, deeper = tmp_path / 'released.pth', _changed(narrow(), img_backbone=dict(depth=34))
    torch.save(dict(meta={}, state_dict=deeper.state_dict()), path)
    with pytest.raises(ValueError, match=r'(img_backbone\.layer1\.2\.\S+ is not in the model; ){6}and 74 more'):
        load_checkpoint(_model(narrow(), 2), str(path))


def test_file_of_other_classes_loads(narrow, tmp_path):
    """To be trained on: what depends on the classes keeps its own weights, with mmengine's warning."""
    path, model = tmp_path / 'released.pth', _model(narrow(), 1)
    torch.save(dict(meta={}, state_dict=model.state_dict()), path)
    other = _changed(narrow(), pts_bbox_head=dict(num_classes=3))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    load_checkpoint(other, str(path))
    kept = {f'{LAYER}cls_branch.6.weight', f'{LAYER}cls_branch.6.bias', 'pts_bbox_head.label_enc.weight'}
    _assert_same(other.state_dict(), {**model.state_dict(), **{key: before[key] for key in kept}})


def _old_place_points(boxes: Tensor, offsets: Tensor, pc_range: Tensor) -> Tensor:
    """Section 7: the yaw of mmdet3d 0.17 turns the other way."""
    boxes = boxes.view(*boxes.shape[:2], *[1] * (offsets.dim() - 3), -1)
    x, y, z = (offsets * boxes[..., 3:6].exp()).unbind(-1)
    yaw = torch.atan2(boxes[..., 6], boxes[..., 7])
    turned = torch.stack([x * yaw.cos() + y * yaw.sin(), -x * yaw.sin() + y * yaw.cos(), z], dim=-1)
    return place_in_metres(boxes, pc_range) + turned


def _old_to_new(boxes: Tensor) -> Tensor:
    """Section 7: what is done to decoded boxes; also the way back."""
    x, y, z, dx, dy, dz, yaw, vx, vy = boxes.unbind(-1)
    return torch.stack([x, y, z, dy, dx, dz, -yaw - math.pi / 2, vx, vy], dim=-1)


@pytest.fixture
def old_and_new(narrow, tmp_path) -> tuple[nn.Module, nn.Module]:
    """A model with the weights of an old file as they are, and one with them converted; moderate weights."""
    torch.manual_seed(3)
    old = MODELS.build(Config.fromfile(narrow()).model)
    old.init_weights()
    head = old.pts_bbox_head
    for linear in (head.decoder.layer.sampling.sampling_offset, head.decoder.layer.mixing.parameter_generator):
        nn.init.normal_(linear.weight, std=0.1)
    head.init_query_bbox.weight.data[:, 2] = 0.6
    new = MODELS.build(Config.fromfile(narrow()).model)
    new.load_state_dict(convert_version(old.state_dict(), 'v0.17.1'))
    return old.eval(), new.eval()


def test_old_boxes_give_equal_detections(old_and_new, monkeypatch):
    old, new = old_and_new
    batch = old.data_preprocessor(make_sample(2, (64, 96)))
    with torch.no_grad():
        got = new(**batch, mode='tensor')
        plain = old(**batch, mode='tensor')
        monkeypatch.setattr(sampling, 'place_points', _old_place_points)
        want = old(**batch, mode='tensor')
    boxes, wanted = decode_target_boxes(got.boxes), _old_to_new(decode_target_boxes(want.boxes))
    torch.testing.assert_close(got.logits, want.logits, rtol=1e-3, atol=1e-4)
    turn = (boxes[..., 6] - wanted[..., 6]) / (2 * math.pi)
    torch.testing.assert_close(turn, turn.round(), rtol=0, atol=1e-4)
    others = [0, 1, 2, 3, 4, 5, 7, 8]
    torch.testing.assert_close(boxes[..., others], wanted[..., others], rtol=1e-3, atol=1e-3)
    # Without the conversion both would differ.
    assert (plain.logits - want.logits).abs().max() > 1e-2
    assert (wanted[..., 3] - decode_target_boxes(want.boxes)[..., 3]).abs().max() > 1e-2


def test_old_boxes_give_equal_losses(old_and_new, monkeypatch):
    """Such a model can be trained on, with today's annotations."""
    old, new = old_and_new
    losses = []
    for model in (new, old):
        batch = model.data_preprocessor(make_sample(2, (64, 96)))
        if model is old:
            monkeypatch.setattr(sampling, 'place_points', _old_place_points)
            instances = batch['data_samples'][0].gt_instances_3d
            instances.bboxes_3d = LiDARInstance3DBoxes(_old_to_new(instances.bboxes_3d.tensor), box_dim=9)
        losses.append({name: value.item() for name, value in model(**batch, mode='loss').items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and len(losses[0]) == 4


def test_old_boxes_convert_a_few_entries_only(narrow):
    own = _model(narrow(), 1).state_dict()
    turned = convert_version(own, 'v0.17.1')
    assert {key for key, value in turned.items() if not torch.equal(value, own[key])} == {
        'pts_bbox_head.init_query_bbox.weight',
        *(
            f'{LAYER}{part}.{name}'
            for part in ('reg_branch.4', 'sampling.sampling_offset')
            for name in ('weight', 'bias')
        ),
    }
    again = own
    for _ in range(4):  # four quarter turns
        again = convert_version(again, 'v0.17.1')
    _assert_same(again, own)


@pytest.mark.parametrize('version', [None, 'v1.0.0'])
def test_current_boxes_stay(narrow, version):
    own = _model(narrow(), 1).state_dict()
    _assert_same(convert_version(own, version), own)


@pytest.fixture
def downloaded(tmp_path, monkeypatch) -> Path:
    """Where what was downloaded lies, so that nobody listens at the addresses of these tests."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize('by', ['path', 'URL'])
@pytest.mark.parametrize('version', ['v0.17.1', 'v0.9'])
def test_version_of_a_file_is_read_when_it_is_loaded(narrow, downloaded, version, by):
    path, own = downloaded / 'released.pth', _model(narrow(), 1).state_dict()
    torch.save(dict(meta={}, state_dict=_official(own), version=version), path)
    model, name = _model(narrow(), 2), str(path) if by == 'path' else f'{NOWHERE}/released.pth'
    if version == 'v0.9':
        with pytest.raises(ValueError, match=rf"checkpoint {name}: entry \"version\": found 'v0\.9', expected"):
            load_checkpoint(model, name)
    else:
        load_checkpoint(model, name, strict=True)
        _assert_same(model.state_dict(), convert_version(own, version))


@pytest.mark.parametrize('content', [None, b'<html>rate limited</html>'], ids=['nothing', 'html page'])
def test_bad_address_is_named(narrow, downloaded, content):
    if content is not None:
        (downloaded / 'released.pth').write_bytes(content)
    with pytest.raises(ValueError, match=rf'checkpoint {NOWHERE}/released\.pth cannot be loaded: check the address'):
        load_checkpoint(_model(narrow(), 2), f'{NOWHERE}/released.pth')


def test_weights_of_a_url_stay_where_they_are(downloaded):
    """Stock backbones, such as mmaction's Swin, read the layouts of the files that they name."""
    torch.save(dict(model=dict(weight=torch.ones(2))), downloaded / 'swin.pth')
    assert set(CheckpointLoader.load_checkpoint(f'{NOWHERE}/swin.pth')) == {'model'}


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
    source, out, own = tmp_path / 'r50.pth', tmp_path / 'converted.pth', _model(narrow(), 1).state_dict()
    torch.save(dict(meta={}, state_dict=_official(own), optimizer=dict(state={}), version='v0.17.1'), source)
    convert(source, out, narrow())
    said = capsys.readouterr().out
    assert 'version    v0.17.1' in said and 'loads strictly into' in said
    model = _model(narrow(), 2)
    load_checkpoint(model, str(out), strict=True)
    _assert_same(model.state_dict(), convert_version(own, 'v0.17.1'))


def test_conversion_of_a_file_of_unknown_version(narrow, tmp_path, convert):
    source, out = tmp_path / 'r50.pth', tmp_path / 'converted.pth'
    torch.save(dict(state_dict=_official(_model(narrow(), 1).state_dict()), version='v0.9'), source)
    with pytest.raises(ValueError, match=r"r50\.pth: entry \"version\": found 'v0\.9', expected"):
        convert(source, out, narrow())
    assert not out.exists()


def test_conversion_of_a_pretrained_detector(narrow, tmp_path, convert, capsys):
    source, out, backbone = tmp_path / 'nuim.pth', tmp_path / 'backbone.pth', _model(narrow(), 1).img_backbone
    torch.save(_detector_file('r50', backbone.state_dict()), source)
    convert(source, out, narrow())
    said = capsys.readouterr().out
    assert 'left out   roi_head.bbox_head.0.fc_cls.bias [11]' in said and 'as its backbone' in said
    converted = torch.load(out, weights_only=True)['state_dict']
    _assert_same(converted, {f'img_backbone.{key}': value for key, value in backbone.state_dict().items()})


def test_nothing_is_written_for_another_config(narrow, tmp_path, convert):
    source, out = tmp_path / 'vov99.pth', tmp_path / 'converted.pth'
    torch.save(dict(state_dict=_official(_model(narrow('vov99_future'), 1).state_dict(), 'vov99_future')), source)
    with pytest.raises(ValueError, match=r'nothing was written(.|\n)*unknown     img_backbone\.stage2\.block1\.ese'):
        convert(source, out, narrow())
    assert not out.exists()
