"""The plain video ViT of VideoMAE, which several action detectors stand on, and the names of its official weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmaction.models.backbones import VisionTransformer
from mmaction.models.backbones.vit_mae import Attention, Block
from mmaction.registry import MODELS
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .checkpoint import Rule

#: Official files of VideoMAE and VideoMAEv2, pretrained or fine-tuned for classification, to the names used here.
#: A file that was fine-tuned with mean pooling has ``fc_norm`` in place of ``norm``: ``norm`` then starts at 1 and 0.
VIDEOMAE_RULES: tuple[Rule, ...] = (
    Rule(r'(encoder\.|backbone\.)?(head|fc_norm|decoder|encoder_to_decoder)\..*', None),
    Rule(r'(encoder\.|backbone\.)?(mask_token|pos_embed)', None),
    Rule(r'(?:encoder\.|backbone\.)?patch_embed\.proj\.(.*)', r'patch_embed.projection.\1'),
    Rule(r'(?:encoder\.|backbone\.)?(blocks\.\d+\.mlp)\.fc1\.(.*)', r'\1.layers.0.0.\2'),
    Rule(r'(?:encoder\.|backbone\.)?(blocks\.\d+\.mlp)\.fc2\.(.*)', r'\1.layers.1.\2'),
    Rule(r'(?:encoder\.|backbone\.)?((?:blocks|norm)\..*)', r'\1'),
)


class FusedAttention(Attention):
    """mmaction's attention through ``scaled_dot_product_attention``: no ``[tokens, tokens]`` matrix is kept."""

    def forward(self, x: Tensor, num_queries: int | None = None) -> Tensor:
        """Attend among tokens.

        Args:
            x: ``[B, N, C]``.
            num_queries: how many of the last tokens look at all; default: every one does.

        Returns:
            ``[B, num_queries, C]``.
        """
        return self.merge(self.attend(*self.project(x, num_queries)))

    def project(self, x: Tensor, num_queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``[B, heads, num_queries, C / heads]``, keys and values ``[B, heads, N, C / heads]``."""
        bias = None
        if hasattr(self, 'q_bias'):
            bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])  # keys have none
        if num_queries is None:
            parts = F.linear(x, self.qkv.weight, bias).chunk(3, dim=-1)
        else:
            width = self.embed_dims
            query_bias, rest_bias = (None, None) if bias is None else (bias[:width], bias[width:])
            query = F.linear(x[:, x.shape[1] - num_queries :], self.qkv.weight[:width], query_bias)
            parts = (query, *F.linear(x, self.qkv.weight[width:], rest_bias).chunk(2, dim=-1))
        return tuple(part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Values mixed by attention, ``[B, heads, num_queries, C / heads]``."""
        dropout = self.attn_drop.p if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=self.scale)

    def merge(self, mixed: Tensor) -> Tensor:
        """The output projection of the heads ``[B, heads, N, C / heads]``, ``[B, N, C]``."""
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))


def fuse_attention(block: Block) -> Block:
    """Put fused attention into a block of mmaction, in place."""
    stock = block.attn
    block.attn = FusedAttention(
        stock.embed_dims,
        stock.num_heads,
        qkv_bias=hasattr(stock, 'q_bias'),
        qk_scale=stock.scale,
        attn_drop_rate=stock.attn_drop.p,
        drop_rate=stock.proj_drop.p,
    )
    return block


def fit_positions(table: Tensor, grid_size: tuple[int, int], grid: tuple[int, int, int]) -> Tensor:
    """A position table for a clip of another size: each slice in time is resized in space.

    As released weights require, the table stays as it is where the number of tokens is the same, whatever their shape.

    Args:
        table: ``[1, T * H * W, C]``.
        grid_size: H and W of the table.
        grid: tokens of the clip in time, height and width.

    Returns:
        ``[1, t * h * w, C]``.

    Raises:
        ValueError: the clip has another number of slices in time.
    """
    num_frames, height, width = grid
    if num_frames * height * width == table.shape[1]:
        return table
    maps = table.unflatten(1, (-1, *grid_size))[0]  # [T, H, W, C]
    if len(maps) != num_frames:
        raise ValueError(
            f'the clip gives {num_frames} tokens in time, the position table has {len(maps)}: set num_frames of the '
            'backbone to clip_len of the pipeline'
        )
    resized = F.interpolate(maps.permute(0, 3, 1, 2), size=(height, width), mode='bicubic', align_corners=False)
    return resized.permute(0, 2, 3, 1).flatten(0, 2)[None]


@MODELS.register_module()
class VideoVisionTransformer(VisionTransformer):
    """mmaction's ``VisionTransformer`` as a dense feature extractor; same numbers, less memory.

    Differs from the stock class: attention is fused, blocks can be recomputed in the backward pass, and the sine
    position table is no entry of the state dict, as in official files.

    Args:
        with_cp: recompute the blocks in the backward pass instead of keeping their activations.
        kwargs: arguments of the stock class.
    """

    def __init__(self, with_cp: bool = False, **kwargs) -> None:
        super().__init__(use_mean_pooling=False, return_feat_map=True, **kwargs)
        self.with_cp = with_cp
        pos_embed = self.pos_embed
        del self.pos_embed
        self.register_buffer('pos_embed', pos_embed, persistent=False)
        for block in self.blocks:
            fuse_attention(block)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised tokens as a map.

        Args:
            x: clips ``[B, 3, T, H, W]``.

        Returns:
            ``[B, embed_dims, T / tubelet, H / patch, W / patch]``.

        Raises:
            ValueError: the clip does not divide into patches, or has another number of frames than the position table
                was made for.
        """
        tokens, grid = self.embed(x)
        for block in self.blocks:
            if self.with_cp and tokens.requires_grad:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return self.norm(tokens).unflatten(1, grid).permute(0, 4, 1, 2, 3)

    def embed(self, x: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Patches with their positions ``[B, t * h * w, C]``, and t, h and w.

        Raises:
            ValueError: as :meth:`forward`.
        """
        patch = self.patch_embed.projection.stride
        if any(size % step for size, step in zip(x.shape[2:], patch, strict=True)):
            frames, height, width = x.shape[2:]
            raise ValueError(
                f'clips of {frames} frames of {height}x{width} pixels do not divide into patches of {patch[0]} frames '
                f'of {patch[1]}x{patch[2]}: set clip_len of the pipeline to a multiple of {patch[0]} and '
                f'pad_size_divisor of the data preprocessor to one of {patch[1]}'
            )
        frames, height, width = (size // step for size, step in zip(x.shape[2:], patch, strict=True))
        grid = (frames, height, width)
        return self.pos_drop(self.patch_embed(x)[0] + fit_positions(self.pos_embed, self.grid_size, grid)), grid
