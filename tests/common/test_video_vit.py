"""The video ViT gives the numbers of mmaction's, with less memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmaction.models.backbones import VisionTransformer

from mvbench_plugins.common.video_vit import VideoVisionTransformer, fit_positions

SMALL = dict(img_size=64, embed_dims=48, depth=3, num_heads=3, num_frames=8, norm_cfg=dict(type='LN', eps=1e-6))


def _pair(**options) -> tuple[VideoVisionTransformer, VisionTransformer]:
    torch.manual_seed(0)
    ours = VideoVisionTransformer(**{**SMALL, **options})
    for name, value in ours.state_dict().items():
        # Attention that looks somewhere, and biases that count.
        value.normal_(std=0.3 if 'qkv' in name else 0.1)
    stock = VisionTransformer(use_mean_pooling=False, return_feat_map=True, **{**SMALL, **options})
    missing, unexpected = stock.load_state_dict(ours.state_dict(), strict=False)
    assert missing == ['pos_embed'] and not unexpected
    return ours.eval(), stock.eval()


def _clip(height: int, width: int, frames: int = 8) -> torch.Tensor:
    return torch.randn(2, 3, frames, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('size', [(64, 64), (64, 96), (48, 128), (32, 128)], ids=str)
@torch.no_grad()
def test_equals_the_stock_class(size):
    """At the size of the position table, and at others; 32 x 128 has as many tokens as the table."""
    ours, stock = _pair()
    clip = _clip(*size)
    if size == (32, 128):  # the published model looks at the number of tokens, and does not resize
        stock.grid_size, table = (2, 8), stock.pos_embed
        stock.pos_embed = table.clone()
    got, want = ours(clip), stock(clip)
    assert got.shape == (2, 48, 4, size[0] // 16, size[1] // 16)
    assert want.abs().max() > 0.1
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_at_224_pixels():
    ours, stock = _pair(img_size=224)
    clip = _clip(224, 224)
    torch.testing.assert_close(ours(clip), stock(clip), rtol=1e-4, atol=1e-6)


def test_position_table():
    """Sines and cosines by turns over all tokens, as official models compute it; no entry of the state dict."""
    backbone = VideoVisionTransformer(**SMALL)
    table = backbone.pos_embed[0]
    assert table.shape == (4 * 4 * 4, 48) and 'pos_embed' not in backbone.state_dict()
    for position, channel in ((0, 0), (0, 1), (5, 0), (63, 7), (17, 46)):
        angle = torch.tensor(position / 10000 ** (2 * (channel // 2) / 48), dtype=torch.float64)
        want = angle.cos() if channel % 2 else angle.sin()
        assert table[position, channel].item() == pytest.approx(want.item(), abs=1e-6)


def test_position_table_of_a_wide_clip():
    """Each slice in time is resized on its own."""
    backbone = VideoVisionTransformer(**SMALL)
    got = fit_positions(backbone.pos_embed, (4, 4), (4, 3, 6)).view(4, 3, 6, 48)
    slice_2 = backbone.pos_embed.view(4, 4, 4, 48)[2].permute(2, 0, 1)[None]
    want = F.interpolate(slice_2, size=(3, 6), mode='bicubic', align_corners=False)[0].permute(1, 2, 0)
    torch.testing.assert_close(got[2], want)


@pytest.mark.parametrize('drop_path', [0.0, 0.5])
def test_recomputation_gives_the_same_gradients(drop_path):
    """Also of dropped paths: recomputed blocks draw the same random numbers."""
    backbone = _pair(drop_path_rate=drop_path)[0].train()
    gradients, saved = [], []
    for with_cp in (False, True):
        backbone.with_cp = with_cp
        backbone.zero_grad()
        torch.manual_seed(3)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            out = backbone(_clip(64, 64))
        out.square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in backbone.named_parameters()})
        saved.append(sum(sizes))
    assert saved[1] < 0.5 * saved[0]
    for name, plain in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], plain, rtol=1e-4, atol=1e-5, msg=name)
    assert gradients[0]['patch_embed.projection.weight'].any()


def test_clip_of_another_length():
    backbone = VideoVisionTransformer(**SMALL)
    with pytest.raises(ValueError, match='2 tokens in time, the position table has 4: set num_frames.*clip_len'):
        backbone(_clip(32, 96, frames=4))
