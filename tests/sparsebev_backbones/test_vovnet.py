"""VoVNet against a second implementation, written from its description and the official names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmdet3d.registry import MODELS
from torch import Tensor

from mvbench_plugins.common.checkpoint import strict_mismatches
from mvbench_plugins.sparsebev.backbone_checkpoint import convert_vovnet
from mvbench_plugins.sparsebev.vovnet import VoVNetV2

V99 = dict(
    stem_channels=(64, 64, 128),
    conv_channels=(128, 160, 192, 224),
    out_channels=(256, 512, 768, 1024),
    num_blocks=(1, 3, 9, 3),
    num_convs=5,
)
SMALL = dict(
    stem_channels=(4, 6, 8),
    conv_channels=(4, 6, 8, 10),
    out_channels=(8, 12, 16, 20),
    num_blocks=(1, 2, 3, 2),
    num_convs=3,
)


def _official_shapes(design: dict) -> dict[str, tuple[int, ...]]:
    """Names below ``img_backbone.`` in a released file."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv_norm(name: str, out: int, into: int, kernel: int) -> None:
        shapes[f'{name}/conv.weight'] = (out, into, kernel, kernel)
        for entry in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'{name}/norm.{entry}'] = (out,)
        shapes[f'{name}/norm.num_batches_tracked'] = ()

    into = 3
    for i, out in enumerate(design['stem_channels'], start=1):
        conv_norm(f'stem.stem_{i}', out, into, 3)
        into = out
    stages = zip(design['conv_channels'], design['out_channels'], design['num_blocks'])
    for stage, (inner, out, depth) in enumerate(stages, start=2):
        for block in range(1, depth + 1):
            osa = f'OSA{stage}_{block}'
            name = f'stage{stage}.{osa}'
            for i in range(design['num_convs']):
                conv_norm(f'{name}.layers.{i}.{osa}_{i}', inner, inner if i else into, 3)
            conv_norm(f'{name}.concat.{osa}_concat', out, into + design['num_convs'] * inner, 1)
            shapes[f'{name}.ese.fc.weight'] = (out, out, 1, 1)
            shapes[f'{name}.ese.fc.bias'] = (out,)
            into = out
    return shapes


def _draw(design: dict) -> dict[str, Tensor]:
    """Weights that neither blow activations up nor let them die."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in _official_shapes(design).items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith('num_batches_tracked'):
            weights[name] = torch.tensor(7)
        elif len(shape) == 4:
            # The fc spreads wide enough that the squeeze saturates at both ends for some channels.
            gain = 20.0 if '.fc.' in name else 2.0
            weights[name] = noise * (gain / (shape[1] * shape[2] * shape[3])) ** 0.5
        elif name.endswith('running_var') or name.endswith('norm.weight'):
            weights[name] = 1 + 0.1 * noise.clamp(-3, 3)
        else:
            weights[name] = (2.0 if '.fc.' in name else 0.1) * noise
    return weights


def _build(design: dict = SMALL, **options) -> VoVNetV2:
    backbone = VoVNetV2(**design, **options).double()
    backbone.load_state_dict(convert_vovnet(_draw(design)).state_dict)
    return backbone


def _images(batch: int = 2, height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _conv_norm_relu(weights: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = weights[f'{name}/conv.weight']
    x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
    mean, var, scale, shift = (
        weights[f'{name}/norm.{entry}'][:, None, None] for entry in ('running_mean', 'running_var', 'weight', 'bias')
    )
    return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)


def _halve(x: Tensor) -> Tensor:
    """Maximum of 3x3 cells every 2 cells; a cell at the end may hang over the map, but not lie outside of it."""
    rows = [x[:, :, i : i + 3].amax(2) for i in range(0, max(x.shape[2] - 1, 1), 2)]
    x = torch.stack(rows, dim=2)
    return torch.stack([x[..., i : i + 3].amax(3) for i in range(0, max(x.shape[3] - 1, 1), 2)], dim=3)


def _reference(weights: dict[str, Tensor], design: dict, x: Tensor) -> list[Tensor]:
    for i, stride in ((1, 2), (2, 1), (3, 2)):
        x = _conv_norm_relu(weights, f'stem.stem_{i}', x, stride)
    maps = []
    for stage, depth in enumerate(design['num_blocks'], start=2):
        if stage > 2:
            x = _halve(x)
        for block in range(1, depth + 1):
            osa = f'OSA{stage}_{block}'
            name = f'stage{stage}.{osa}'
            parts, y = [x], x
            for i in range(design['num_convs']):
                y = _conv_norm_relu(weights, f'{name}.layers.{i}.{osa}_{i}', y)
                parts.append(y)
            y = _conv_norm_relu(weights, f'{name}.concat.{osa}_concat', torch.cat(parts, dim=1))
            fc = weights[f'{name}.ese.fc.weight'][:, :, 0, 0]
            gate = y.mean(dim=(2, 3)) @ fc.T + weights[f'{name}.ese.fc.bias']
            y = y * ((gate + 3).clamp(0, 6) / 6)[:, :, None, None]
            x = y if block == 1 else x + y
        maps.append(x)
    return maps


@pytest.mark.parametrize('size', [(64, 96), (72, 104), (68, 76)], ids=str)
@torch.no_grad()
def test_equals_the_reference(size):
    """Halving maps of an even size, the last cell hangs over; 17x19 become 8x9, without; batch norm's mode is set."""
    images = _images(2, *size)
    want = _reference(_draw(SMALL), SMALL, images)
    got = _build()(images)
    assert len(got) == len(want) == 4
    for ours, theirs in zip(got, want):
        assert theirs.abs().amax() > 0.1
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_v99_has_the_published_size():
    """69.52 M parameters, official names and shapes, strides 4 to 32 at the resolution of the released model."""
    with torch.device('meta'):
        backbone = VoVNetV2()
        official = {name: torch.empty(shape) for name, shape in _official_shapes(V99).items()}
        maps = backbone(torch.empty(1, 3, 640, 1600))
    assert round(sum(p.numel() for p in backbone.parameters()) / 1e6, 2) == 69.52
    conversion = convert_vovnet(official)
    assert not conversion.dropped
    assert strict_mismatches(backbone, conversion.state_dict) == []
    assert [tuple(x.shape[1:]) for x in maps] == [
        (256, 160, 400),
        (512, 80, 200),
        (768, 40, 100),
        (1024, 20, 50),
    ]


def test_trains_what_is_not_frozen():
    """The stem and stage 2 stay, and so do the statistics of batch norm everywhere."""
    backbone = _build().train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    sum(x.square().mean() for x in backbone(_images())).backward()
    for name, parameter in backbone.named_parameters():
        if name.startswith(('stem.', 'stage2.')):
            assert not parameter.requires_grad and parameter.grad is None, name
        else:
            assert parameter.grad.abs().amax() > 0, name
    for name, value in backbone.named_buffers():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize('frozen, parts', [(-1, ()), (0, ('stem',)), (2, ('stem', 'stage2', 'stage3'))])
def test_frozen_stages(frozen, parts):
    backbone = VoVNetV2(**SMALL, frozen_stages=frozen)
    assert {n.split('.')[0] for n, p in backbone.named_parameters() if not p.requires_grad} == set(parts)


def test_frozen_stages_out_of_range():
    with pytest.raises(ValueError, match=r'frozen_stages=5: expected -1 \(none\) to 4'):
        VoVNetV2(**SMALL, frozen_stages=5)


def test_recomputation_gives_the_same_gradients():
    images = _images()
    gradients, kept = [], []
    for with_cp in (False, True):
        backbone = _build(with_cp=with_cp).train()
        size = 0

        def count(x: Tensor) -> Tensor:
            nonlocal size
            size += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            loss = sum(x.square().mean() for x in backbone(images))
        kept.append(size)
        loss.backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters() if p.requires_grad})
    torch.testing.assert_close(gradients[1], gradients[0])
    assert kept[1] < kept[0] / 2


def test_half_precision():
    backbone = _build().float().train()
    images = _images().float()
    single = backbone(images)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = backbone(images)
    for ours, theirs in zip(half, single):
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - theirs).norm() < 0.05 * theirs.norm()
    sum(x.float().square().mean() for x in half).backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.requires_grad)


def test_starts_from_the_file_of_dd3d(tmp_path):
    """Its batch norms were frozen ones, which count no batches; other parts of the detector do not matter."""
    weights = {
        f'img_backbone.{name}': value.float()
        for name, value in _draw(SMALL).items()
        if not name.endswith('num_batches_tracked')
    }
    torch.save(dict(state_dict=weights | {'pts_bbox_head.cls.weight': torch.zeros(3)}), tmp_path / 'dd3d.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'dd3d.pth'), prefix='img_backbone.')
    backbone = VoVNetV2(**SMALL, init_cfg=pretrained)
    backbone.init_weights()
    want = _build().float().state_dict()
    for name, value in backbone.state_dict().items():
        if not name.endswith('num_batches_tracked'):
            assert torch.equal(value, want[name]), name


def test_refuses_the_file_of_another_backbone():
    resnet = {'conv1.weight': torch.zeros(64, 3, 7, 7), 'layer1.0.conv1.weight': torch.zeros(64, 64, 1, 1)}
    with pytest.raises(ValueError, match='holds weights of another model: 0 of the .* entries of VoVNetV2'):
        VoVNetV2(**SMALL).load_state_dict(resnet, strict=False)


def test_own_names_stay():
    own = VoVNetV2(**SMALL).state_dict()
    conversion = convert_vovnet(own)
    assert list(conversion.state_dict) == list(own) and not conversion.dropped
    assert list(convert_vovnet({f'img_backbone.{k}': v for k, v in _draw(SMALL).items()}).state_dict) == list(
        convert_vovnet(_draw(SMALL)).state_dict
    )


def test_is_registered():
    assert MODELS.get('VoVNetV2') is VoVNetV2
