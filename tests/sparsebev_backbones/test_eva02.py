"""EVA-02 with its pyramid against a second implementation, written from its description and the official names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from eva02_reference import reference
from mmdet3d.registry import MODELS
from torch import Tensor

from mvbench_plugins.common.checkpoint import strict_mismatches
from mvbench_plugins.sparsebev.backbone_checkpoint import convert_eva02
from mvbench_plugins.sparsebev.eva02 import EVA02SimplePyramid

LARGE = dict(
    embed_dims=1024,
    depth=24,
    num_heads=16,
    patch_size=16,
    window=16,
    global_blocks=tuple(range(2, 24, 3)),
    rotary_grid=96,
    out_channels=256,
)
SMALL = dict(
    embed_dims=48,
    depth=5,
    num_heads=3,
    patch_size=4,
    window=4,
    global_blocks=(1, 4),
    rotary_grid=6,
    out_channels=8,
)


def _official_shapes(design: dict) -> dict[str, tuple[int, ...]]:
    """Names below ``img_backbone.`` in a released file, the rotary tables included."""
    dims, out, patch = design['embed_dims'], design['out_channels'], design['patch_size']
    head, hidden = dims // design['num_heads'], int(dims * 8 / 3)
    shapes: dict[str, tuple[int, ...]] = {
        'net.patch_embed.proj.weight': (dims, 3, patch, patch),
        'net.patch_embed.proj.bias': (dims,),
        'net.pos_embed': (1, 197, dims),
    }

    def norm(name: str, channels: int) -> None:
        shapes[f'{name}.weight'] = shapes[f'{name}.bias'] = (channels,)

    def tables(name: str, grid: int) -> None:
        shapes[f'{name}.freqs_cos'] = shapes[f'{name}.freqs_sin'] = (grid**2, head)

    for i in range(design['depth']):
        block = f'net.blocks.{i}'
        norm(f'{block}.norm1', dims)
        norm(f'{block}.norm2', dims)
        for projection in ('q_proj', 'k_proj', 'v_proj', 'proj'):
            shapes[f'{block}.attn.{projection}.weight'] = (dims, dims)
        shapes[f'{block}.attn.proj.bias'] = shapes[f'{block}.attn.q_bias'] = shapes[f'{block}.attn.v_bias'] = (dims,)
        tables(f'{block}.attn.rope', design['rotary_grid' if i in design['global_blocks'] else 'window'])
        for layer, shape in (('w1', (hidden, dims)), ('w2', (hidden, dims)), ('w3', (dims, hidden))):
            shapes[f'{block}.mlp.{layer}.weight'], shapes[f'{block}.mlp.{layer}.bias'] = shape, shape[:1]
        norm(f'{block}.mlp.ffn_ln', hidden)
    tables('net.rope_win', design['window'])
    tables('net.rope_glb', design['rotary_grid'])

    def deconv(name: str, into: int) -> None:
        shapes[f'{name}.weight'], shapes[f'{name}.bias'] = (into, into // 2, 2, 2), (into // 2,)

    deconv('simfp_2.0', dims)
    norm('simfp_2.1', dims // 2)
    deconv('simfp_2.3', dims // 2)
    deconv('simfp_3.0', dims)
    for level, first, into in ((2, 4, dims // 4), (3, 1, dims // 2), (4, 0, dims), (5, 1, dims)):
        shapes[f'simfp_{level}.{first}.weight'] = (out, into, 1, 1)
        norm(f'simfp_{level}.{first}.norm', out)
        shapes[f'simfp_{level}.{first + 1}.weight'] = (out, out, 3, 3)
        norm(f'simfp_{level}.{first + 1}.norm', out)
    return {f'backbone.{name}': shape for name, shape in shapes.items()}


def _draw(design: dict) -> dict[str, Tensor]:
    """Weights under which attention looks somewhere and every bias counts; the tables are not those of the model."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in _official_shapes(design).items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if 'norm' in name or '_ln' in name or 'simfp_2.1.' in name:
            weights[name] = 0.2 * noise + (1 if name.endswith('weight') else 0)
        elif name.endswith('weight') and len(shape) > 1:
            gain = 3.0 if 'q_proj' in name or 'k_proj' in name else 1.0
            weights[name] = noise * gain / noise[0].numel() ** 0.5
        else:
            weights[name] = 0.5 * noise
    return weights


def _build(**options) -> EVA02SimplePyramid:
    backbone = EVA02SimplePyramid(**{**SMALL, 'frozen_blocks': 1, **options})
    backbone.load_state_dict(convert_eva02(_draw(SMALL)).state_dict)
    return backbone


def _images(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def double() -> Iterator[None]:
    """Models are built in float64, with tables of that precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize('size', [(20, 28), (24, 24), (32, 16), (56, 56)], ids=str)
@torch.no_grad()
def test_equals_the_reference(size, double):
    """5x7 tokens pad both axes of the windows; 6x6 is the grid of the rotary table, 14x14 that of the positions."""
    images = _images(*size)
    weights = _draw(SMALL)
    got = _build().eval()(images)
    assert len(got) == 5
    for i, image in enumerate(images):
        for ours, theirs in zip(got, reference(weights, SMALL, image)):
            torch.testing.assert_close(ours[i].permute(1, 2, 0), theirs, rtol=1e-8, atol=1e-9)


def test_large_has_the_size_of_the_released_one():
    """Names, shapes and number of parameters, and strides 4 to 64 at the resolution of the released model."""
    with torch.device('meta'):
        backbone = EVA02SimplePyramid().eval()
        official = {name: torch.empty(shape) for name, shape in _official_shapes(LARGE).items()}
        levels = backbone(torch.empty(1, 3, 640, 1600))
    conversion = convert_eva02(official)
    assert len(conversion.dropped) == 2 * 24 + 4 and all('freqs_' in name for name in conversion.dropped)
    assert strict_mismatches(backbone, conversion.state_dict) == []
    dims, hidden = 1024, 2730
    block = 4 * dims**2 + 3 * dims + 4 * dims + 3 * dims * hidden + 2 * hidden + dims + 2 * hidden
    pyramid = (
        (4 * dims * dims // 2 + dims // 2) * 2  # to strides 4 and 8
        + (4 * dims // 2 * dims // 4 + dims // 4)
        + 2 * dims // 2
        + 256 * (dims // 4 + dims // 2 + 2 * dims)
        + 4 * (9 * 256**2 + 4 * 256)
    )
    want = 24 * block + pyramid + 197 * dims + 3 * 16**2 * dims + dims
    assert sum(p.numel() for p in backbone.parameters()) == want
    assert [tuple(x.shape[1:]) for x in levels] == [
        (256, 160, 400),
        (256, 80, 200),
        (256, 40, 100),
        (256, 20, 50),
        (256, 10, 25),
    ]
    assert [block.window for block in backbone.blocks] == [16, 16, None] * 8
    assert [block.drop_path.drop_prob for block in backbone.blocks] == pytest.approx([0.3 * i / 23 for i in range(24)])
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    frozen = {name for name in dict(backbone.named_parameters()) if name not in trained}
    assert {'.'.join(name.split('.')[: 2 if 'blocks' in name else 1]) for name in frozen} == {
        'patch_embed',
        'pos_embed',
        'blocks.0',
        'blocks.1',
        'blocks.2',
    }


def test_trains_what_is_not_frozen():
    backbone = _build(frozen_blocks=2, drop_path_rate=0.0).train()
    sum(x.square().mean() for x in backbone(_images(20, 28).float())).backward()
    for name, parameter in backbone.named_parameters():
        if name.startswith(('patch_embed.', 'pos_embed', 'blocks.0.', 'blocks.1.')):
            assert not parameter.requires_grad and parameter.grad is None, name
        else:
            assert parameter.grad.abs().amax() > 0, name


def test_everything_can_be_trained():
    backbone = _build(frozen_blocks=-1)
    assert all(p.requires_grad for p in backbone.parameters())


def test_paths_are_dropped_in_training_only():
    """By image, never in frozen blocks, also after the mode was switched forth and back."""
    torch.manual_seed(0)
    images = _images(20, 28, batch=1).float().expand(8, -1, -1, -1)
    backbone = _build(frozen_blocks=1, drop_path_rate=0.5).train().eval().train()
    assert [block.drop_path.training for block in backbone.blocks] == [False, True, True, True, True]
    finest = backbone(images)[0].detach()
    assert (finest[1:] - finest[:1]).abs().amax() > 0.1
    finest = backbone.eval()(images)[0].detach()
    torch.testing.assert_close(finest, finest[:1].expand_as(finest))


@pytest.mark.parametrize('drop_path_rate', [0.0, 0.5])
def test_recomputation_gives_the_same_gradients(drop_path_rate, double):
    """Also of dropped paths: recomputed blocks draw the same random numbers."""
    images = _images(20, 28)
    gradients, kept = [], []
    for with_cp in (False, True):
        backbone = _build(with_cp=with_cp, drop_path_rate=drop_path_rate).train()
        size = 0

        def count(x: Tensor) -> Tensor:
            nonlocal size
            size += x.numel()
            return x

        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            loss = sum(x.square().mean() for x in backbone(images))
        kept.append(size)
        loss.backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters() if p.requires_grad})
    torch.testing.assert_close(gradients[1], gradients[0])
    assert kept[1] < kept[0] / 2


def test_half_precision():
    """Tables stay in float32, features follow the autocast."""
    backbone = _build(drop_path_rate=0.0).train()
    images = _images(20, 28).float()
    single = backbone(images)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = backbone(images)
    for ours, theirs in zip(half, single):
        assert (ours.float() - theirs).norm() < 0.1 * theirs.norm()
    sum(x.float().square().mean() for x in half).backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.requires_grad)


@pytest.mark.parametrize('options', [{}, dict(prefix='backbone.')], ids=['whole', 'prefix'])
def test_starts_from_the_file_of_the_detector(tmp_path, options):
    """Weights lie under ``model``, beside those of the detector's heads."""
    weights = {name: value.float() for name, value in _draw(SMALL).items()}
    heads = {
        'proposal_generator.rpn_head.conv.weight': torch.zeros(3),
        'roi_heads.box_head.0.fc1.weight': torch.ones(2),
    }
    torch.save(dict(model=weights | heads, iteration=1), tmp_path / 'eva02.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'eva02.pth'), **options)
    backbone = EVA02SimplePyramid(**SMALL, init_cfg=pretrained)
    backbone.init_weights()
    want = _build().state_dict()
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, want[name]), name


def test_refuses_the_file_of_another_backbone():
    other = {'backbone.bottom_up.stem.conv1.weight': torch.zeros(64, 3, 7, 7)}
    with pytest.raises(ValueError, match='holds weights of another model: 0 of the .* entries of EVA02SimplePyramid'):
        EVA02SimplePyramid(**SMALL).load_state_dict(other, strict=False)


def test_own_names_stay():
    own = EVA02SimplePyramid(**SMALL).state_dict()
    conversion = convert_eva02(own)
    assert list(conversion.state_dict) == list(own) and not conversion.dropped


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(depth=3), r'global_blocks=\(1, 4\), frozen_blocks=3: the backbone has depth=3'),
        (dict(frozen_blocks=6), 'frozen_blocks=6: the backbone has depth=5'),
        (dict(embed_dims=44, num_heads=2), r'embed_dims=44 in num_heads=2 heads: expected a multiple of 4'),
    ],
)
def test_wrong_designs(options, message):
    with pytest.raises(ValueError, match=message):
        EVA02SimplePyramid(**{**SMALL, **options})


def test_images_that_do_not_divide_into_patches():
    with pytest.raises(ValueError, match='images of 22x28 pixels do not divide into patches of 4: set pad_size_div'):
        _build()(torch.zeros(1, 3, 22, 28))


def test_is_registered():
    assert MODELS.get('EVA02SimplePyramid') is EVA02SimplePyramid
