"""EVA-02-L (arXiv 2303.11331) as a dense feature extractor, with the simple pyramid it was trained with as detector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmdet3d.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mvbench_plugins.common.checkpoint import accept_official_backbones

from .backbone_checkpoint import convert_eva02
from .eva02_attention import RotaryAttention, RotaryTable, Rotation, join_windows, split_windows
from .simple_pyramid import NORM_EPS, SimplePyramid

#: Side of the position table in tokens: pretraining looked at 224 px in patches of 16.
_PRETRAIN_GRID = 14


class SwiGLU(nn.Module):
    """Feed-forward layer with a gate and a norm in the middle: ``w3(LN(silu(w1 x) * w2 x))``.

    Args:
        embed_dims: channels of the tokens.
        hidden_dims: channels in the middle.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(embed_dims, hidden_dims)
        self.w2 = nn.Linear(embed_dims, hidden_dims)
        self.ffn_ln = nn.LayerNorm(hidden_dims, eps=NORM_EPS)
        self.w3 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token of ``[..., C]``."""
        return self.w3(self.ffn_ln(F.silu(self.w1(x)) * self.w2(x)))


class EVA02Block(nn.Module):
    """Attention and feed-forward layer, each behind a norm.

    Args:
        embed_dims: channels of the tokens.
        num_heads: attention heads.
        window: tokens along each side of the windows that attention stays in; None: the whole map.
        drop_path_rate: probability of leaving a layer out for an image, in training.
    """

    def __init__(self, embed_dims: int, num_heads: int, window: int | None, drop_path_rate: float) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(embed_dims, eps=NORM_EPS)
        self.attn = RotaryAttention(embed_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims, eps=NORM_EPS)
        self.mlp = SwiGLU(embed_dims, embed_dims * 8 // 3)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """Transform maps of tokens.

        Args:
            x: ``[B, h, w, C]``.
            rotation: of the tokens of a window, or of the map.
        """
        x = x + self.drop_path(self._attend(self.norm1(x), rotation))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor, rotation: Rotation) -> Tensor:
        height, width = x.shape[1:3]
        if self.window is None:
            return self.attn(x.flatten(1, 2), rotation).unflatten(1, (height, width))
        # Padding comes behind the norm and takes part in attention, as released weights require.
        windows = self.attn(split_windows(x, self.window), rotation)
        return join_windows(windows, self.window, height, width)


@MODELS.register_module()
class EVA02SimplePyramid(BaseModule):
    """Backbone and neck in one; by default EVA-02-L.

    Officially released files load directly: whole models, and the detector it starts from through
    ``init_cfg=dict(type='Pretrained', checkpoint=FILE)``.

    Args:
        embed_dims: channels of the tokens.
        depth: number of blocks.
        num_heads: attention heads.
        patch_size: pixels along each side of a token.
        window: tokens along each side of a window.
        global_blocks: indices of the blocks whose attention spans the whole map.
        rotary_grid: tokens along each side of the map that global attention was trained on: 96 for 1536 px.
        drop_path_rate: of the last block; it rises linearly from 0 at the first.
        out_channels: of all levels of the pyramid.
        frozen_blocks: 0 freezes the patch embedding and the positions, n the n first blocks as well, -1 nothing.
        with_cp: recompute the blocks in the backward pass instead of keeping their activations.
        init_cfg: initialisation, as everywhere in mm.

    Raises:
        ValueError: there are no such blocks, or the channels of a head do not divide into pairs for rows and columns.
    """

    def __init__(
        self,
        embed_dims: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        patch_size: int = 16,
        window: int = 16,
        global_blocks: Sequence[int] = (2, 5, 8, 11, 14, 17, 20, 23),
        rotary_grid: int = 96,
        drop_path_rate: float = 0.3,
        out_channels: int = 256,
        frozen_blocks: int = 3,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        absent = sorted(set(global_blocks) - set(range(depth)))
        if absent or not -1 <= frozen_blocks <= depth:
            raise ValueError(
                f'global_blocks={tuple(global_blocks)}, frozen_blocks={frozen_blocks}: the backbone has depth={depth}, '
                f'its blocks count from 0 to {depth - 1}, and -1 (nothing) to {depth} of them can be frozen'
            )
        if embed_dims % (4 * num_heads):
            raise ValueError(
                f'embed_dims={embed_dims} in num_heads={num_heads} heads: expected a multiple of 4 * num_heads, since '
                'rotary positions turn pairs of channels, for rows and for columns'
            )
        self.patch_size = patch_size
        self.frozen_blocks = frozen_blocks
        self.with_cp = with_cp
        self.patch_embed = nn.Conv2d(3, embed_dims, patch_size, stride=patch_size)
        # The first row belongs to the class token of pretraining, which a map has no use for.
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _PRETRAIN_GRID**2, embed_dims))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            EVA02Block(embed_dims, num_heads, None if i in global_blocks else window, rate)
            for i, rate in enumerate(rates)
        )
        self.window_rotary = RotaryTable(window, embed_dims // num_heads)
        self.global_rotary = RotaryTable(rotary_grid, embed_dims // num_heads)
        self.pyramid = SimplePyramid(embed_dims, out_channels)
        self._freeze()
        self.train()  # a module that nobody set a mode of is in training, its frozen blocks as well
        accept_official_backbones(self, convert_eva02)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Levels of the pyramid.

        Args:
            x: normalised images ``[B, 3, H, W]``.

        Returns:
            Five maps ``[B, out_channels, h, w]``, at strides 4, 8, 16, 32 and 64 (for patches of 16 pixels).

        Raises:
            ValueError: the images do not divide into patches.
        """
        tokens = self._embed(x)
        # Once for all blocks; not kept between calls, it costs nothing beside them.
        whole = self.global_rotary(*tokens.shape[1:3])
        windowed = self.window_rotary(*self.window_rotary.table.shape[2:])
        for block in self.blocks:
            rotation = whole if block.window is None else windowed
            if self.with_cp and tokens.requires_grad:
                tokens = checkpoint(block, tokens, rotation, use_reentrant=False)
            else:
                tokens = block(tokens, rotation)
        return self.pyramid(tokens.permute(0, 3, 1, 2))

    def train(self, mode: bool = True) -> EVA02SimplePyramid:
        """Set the mode; frozen blocks stay in that of evaluation, without drop path."""
        super().train(mode)
        for block in self.blocks[: max(self.frozen_blocks, 0)]:
            block.eval()
        return self

    def _embed(self, x: Tensor) -> Tensor:
        """Patches with their positions, ``[B, h, w, C]``."""
        if any(size % self.patch_size for size in x.shape[2:]):
            raise ValueError(
                f'images of {x.shape[2]}x{x.shape[3]} pixels do not divide into patches of {self.patch_size}: set '
                f'pad_size_divisor of the data preprocessor to a multiple of {self.patch_size}'
            )
        patches = self.patch_embed(x)
        table = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (_PRETRAIN_GRID, _PRETRAIN_GRID))
        if patches.shape[2:] != table.shape[2:]:
            table = F.interpolate(table, size=patches.shape[2:], mode='bicubic', align_corners=False)
        return (patches + table).permute(0, 2, 3, 1)

    def _freeze(self) -> None:
        if self.frozen_blocks < 0:
            return
        self.pos_embed.requires_grad_(False)
        for part in (self.patch_embed, *self.blocks[: self.frozen_blocks]):
            part.requires_grad_(False)
