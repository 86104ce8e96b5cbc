"""The SlowFast backbones against a second implementation, written from the papers' equations and official names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine.config import Config
from torch import Tensor

from mvbench_plugins.stmixer.checkpoint import convert_backbone_state_dict
from mvbench_plugins.stmixer.slowfast import DotProductNonLocal

R50 = 'stmixer_slowfast-r50-k400-pre_8xb2-32x2x1-12e_ava22-rgb.py'
R101 = 'stmixer_slowfast-r101-nl-k600-pre_8xb2-32x2x1-12e_ava22-rgb.py'
SPATIAL_STRIDES = (1, 2, 2, 2)
# Per config: blocks of each stage, kernel of the lateral fusion, blocks of res4 that convolve in time, non-local ones.
DESIGNS = {R50: ((3, 4, 6, 3), 7, 6, ()), R101: ((3, 4, 23, 3), 5, 6, (6, 13, 20))}


def _temporal_kernel(pathway: int, stage: int, block: int, temporal_res4: int) -> int:
    if stage == 4:
        return 3 if block < temporal_res4 else 1
    return 3 if pathway == 1 or stage == 5 else 1


def _draw(design: tuple) -> dict[str, Tensor]:
    """Weights under official names that neither blow activations up nor let them die."""
    blocks, fusion_kernel, temporal_res4, non_local = design
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def conv(name: str, out: int, into: int, *kernel: int, gain: float = 2.0) -> None:
        fan_in = into * kernel[0] * kernel[1] * kernel[2]
        weights[f'{name}.weight'] = randn(out, into, *kernel) * (gain / fan_in) ** 0.5

    def norm(name: str, channels: int, scale: float = 1.0) -> None:
        weights[f'{name}.weight'] = scale * (1 + 0.1 * randn(channels))
        weights[f'{name}.bias'] = 0.1 * randn(channels)
        weights[f'{name}.running_mean'] = 0.1 * randn(channels)
        weights[f'{name}.running_var'] = torch.rand(channels, generator=generator) + 0.5
        weights[f'{name}.num_batches_tracked'] = torch.tensor(7)

    for pathway, (stem, kernel) in enumerate(((64, 1), (8, 5))):
        conv(f's1.pathway{pathway}_stem.conv', stem, 3, kernel, 7, 7)
        norm(f's1.pathway{pathway}_stem.bn', stem)
        inner = stem
        into = stem if pathway else 64 + 2 * 8
        for stage, depth in enumerate(blocks, start=2):
            out = 4 * inner
            for block in range(depth):
                name = f's{stage}.pathway{pathway}_res{block}'
                if block == 0:
                    conv(f'{name}.branch1', out, into, 1, 1, 1, gain=1.0)
                    norm(f'{name}.branch1_bn', out)
                conv(f'{name}.branch2.a', inner, into, _temporal_kernel(pathway, stage, block, temporal_res4), 1, 1)
                conv(f'{name}.branch2.b', inner, inner, 1, 3, 3)
                conv(f'{name}.branch2.c', out, inner, 1, 1, 1)
                for letter, channels in (('a', inner), ('b', inner), ('c', out)):
                    norm(f'{name}.branch2.{letter}_bn', channels, scale=0.4 if letter == 'c' else 1.0)
                into = out
            if pathway == 0:
                into += 2 * out // 8  # of the fast pathway
            inner *= 2
    for stage, channels in ((1, 8), (2, 32), (3, 64), (4, 128)):
        conv(f's{stage}_fuse.conv_f2s', 2 * channels, channels, fusion_kernel, 1, 1)
        norm(f's{stage}_fuse.bn', 2 * channels)
    for block in non_local:
        name = f's4.pathway0_nonlocal{block}'
        for part, out, into in (('theta', 512, 1024), ('phi', 512, 1024), ('g', 512, 1024), ('out', 1024, 512)):
            # Small: the block is cubic in its input, without a softmax to hold it.
            conv(f'{name}.conv_{part}', out, into, 1, 1, 1, gain=0.012)
            weights[f'{name}.conv_{part}.bias'] = 0.1 * randn(out)
        norm(f'{name}.bn', 1024)
    return weights


class Reference:
    """SlowFast as a function of official weights."""

    def __init__(self, weights: dict[str, Tensor], design: tuple) -> None:
        self.weights = weights
        self.blocks, self.fusion_kernel, self.temporal_res4, self.non_local_blocks = design

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            self.weights[f'{name}.{leaf}'] for leaf in ('running_mean', 'running_var', 'weight', 'bias')
        )
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=1e-5)

    def conv(self, x: Tensor, name: str, norm: str, stride: tuple[int, int, int] = (1, 1, 1)) -> Tensor:
        weight = self.weights[f'{name}.weight']
        padding = tuple(size // 2 for size in weight.shape[2:])
        return self.norm(F.conv3d(x, weight, stride=stride, padding=padding), norm)

    def stem(self, x: Tensor, pathway: int) -> Tensor:
        name = f's1.pathway{pathway}_stem'
        x = F.relu(self.conv(x, f'{name}.conv', f'{name}.bn', (1, 2, 2)))
        return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))

    def stage(self, x: Tensor, stage: int, pathway: int) -> Tensor:
        for block in range(self.blocks[stage - 2]):
            name = f's{stage}.pathway{pathway}_res{block}'
            stride = (1,) + (SPATIAL_STRIDES[stage - 2] if block == 0 else 1,) * 2
            shortcut = self.conv(x, f'{name}.branch1', f'{name}.branch1_bn', stride) if block == 0 else x
            y = F.relu(self.conv(x, f'{name}.branch2.a', f'{name}.branch2.a_bn'))
            y = F.relu(self.conv(y, f'{name}.branch2.b', f'{name}.branch2.b_bn', stride))
            x = F.relu(shortcut + self.conv(y, f'{name}.branch2.c', f'{name}.branch2.c_bn'))
            if (stage, pathway) == (4, 0) and block in self.non_local_blocks:
                x = self.non_local(x, f's4.pathway0_nonlocal{block}')
        return x

    def non_local(self, x: Tensor, name: str) -> Tensor:
        def project(x: Tensor, part: str) -> Tensor:
            return F.conv3d(x, self.weights[f'{name}.conv_{part}.weight'], self.weights[f'{name}.conv_{part}.bias'])

        pooled = F.max_pool3d(x, (2, 2, 2), (2, 2, 2))
        theta, phi, g = project(x, 'theta'), project(pooled, 'phi'), project(pooled, 'g')
        affinity = torch.einsum('bcthw,bcuij->bthwuij', theta, phi) / phi[0, 0].numel()
        told = torch.einsum('bthwuij,bcuij->bcthw', affinity, g)
        return x + self.norm(project(told, 'out'), f'{name}.bn')

    def fuse(self, slow: Tensor, fast: Tensor, stage: int) -> Tensor:
        name = f's{stage}_fuse'
        return torch.cat([slow, F.relu(self.conv(fast, f'{name}.conv_f2s', f'{name}.bn', (4, 1, 1)))], dim=1)

    def __call__(self, clip: Tensor) -> list[Tensor]:
        slow, fast = self.stem(clip[:, :, [0, 4, 8, 13, 17, 22, 26, 31]], 0), self.stem(clip, 1)
        slow, levels = self.fuse(slow, fast, 1), []
        for stage in (2, 3, 4, 5):
            slow, fast = self.stage(slow, stage, 0), self.stage(fast, stage, 1)
            levels.append(torch.cat([slow, F.max_pool3d(fast, (4, 1, 1), (4, 1, 1))], dim=1))
            if stage < 5:
                slow = self.fuse(slow, fast, stage)
        return levels


@pytest.mark.parametrize('name', [R50, R101], ids=['r50', 'r101-nl'])
@torch.no_grad()
def test_against_a_second_implementation(config_dir, name):
    cfg = Config.fromfile(config_dir / 'stmixer' / name)
    backbone = MODELS.build(cfg.model.backbone).eval()
    weights = _draw(DESIGNS[name])
    backbone.load_state_dict(convert_backbone_state_dict(weights).state_dict, strict=True)
    clip = torch.randn(1, 3, 32, 32, 64, generator=torch.Generator().manual_seed(1))
    want = Reference(weights, DESIGNS[name])(clip)
    got = backbone(clip)
    assert [tuple(level.shape[1:]) for level in got] == [
        (288, 8, 8, 16),
        (576, 8, 4, 8),
        (1152, 8, 2, 4),
        (2304, 8, 1, 2),
    ]
    for level, reference in zip(got, want, strict=True):
        largest = reference.abs().max()
        assert 0.5 < largest < 1e4, 'the drawn weights make this comparison meaningless'
        assert (level - reference).abs().max() < 1e-4 * largest


def test_clip_of_wrong_length(config_dir):
    cfg = Config.fromfile(config_dir / 'stmixer' / R50)
    backbone = MODELS.build(cfg.model.backbone)
    with pytest.raises(ValueError, match='30 frames.*speed_ratio=4.*clip_len'):
        backbone(torch.zeros(1, 3, 30, 32, 32))


def test_untrained_non_local_block_changes_nothing():
    """So it can be added to a backbone that was pretrained without it."""
    block = DotProductNonLocal(8)
    block.init_weights()
    x = torch.randn(2, 8, 4, 4, 6)
    assert torch.equal(block.eval()(x), x)
    assert torch.equal(block.train()(x), x)
