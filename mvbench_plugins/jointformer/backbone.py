"""ConvMAE with joint blocks: features, correspondence and compressed memory in one stack (arXiv 2308.13505)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from .attention import FrameMemory, TopK
from .joint_blocks import NORM_EPS, joint_blocks
from .position import grid_positions, sincos_table
from .stems import ConvPatchEmbed, conv_blocks

#: Pixels of the side of a token: images must be multiples of it.
STRIDE = 16


class QueryStem(NamedTuple):
    """What the stem makes of images, the same for all objects.

    Attributes:
        f4: ``[B, C1, H / 4, W / 4]``.
        f8: ``[B, C2, H / 8, W / 8]``.
        tokens: ``[B, h * w, C]`` with their positions, row by row.
        grid: h = H / 16 and w = W / 16.
    """

    f4: Tensor
    f8: Tensor
    tokens: Tensor
    grid: tuple[int, int]


@MODELS.register_module()
class JointConvMAE(BaseModule):
    """ConvMAE whose attention blocks also match a frame with memorised ones and update a compressed token.

    A row of a batch is one object of one image everywhere, except for :meth:`stem`, which knows no objects. The
    compressed token is ``[B, 1, C]``, one for each object; it starts as :attr:`cls_token`.

    Args:
        embed_dims: channels of the two convolutional stages and of the tokens; the last is a multiple of 4.
        depths: convolutional blocks of stages 1 and 2, and joint blocks.
        num_heads: attention heads; they divide the channels of the tokens.
        mlp_ratio: hidden channels of feed-forward layers over channels.
        token_depth: blocks that update the compressed token by the decoder's feature.
        enhance_depth: blocks that enhance a feature by the compressed token.
        pos_grid: rows and columns of the position table.
        mask_channels: of a memory frame: 2 for the object's own mask and the sum of the others', 1 for its own only.
        keys_as_queries: start the keys of the joint blocks with the weights of their queries. Tokens then attend to
            their like from the first step on, which networks without pretraining take long to find out.
        init_cfg: as in mmengine.

    Raises:
        ValueError: the channels of the tokens do not divide into heads, or not into the parts of the position table.
    """

    def __init__(
        self,
        embed_dims: Sequence[int] = (256, 384, 768),
        depths: Sequence[int] = (2, 2, 11),
        num_heads: int = 12,
        mlp_ratio: int = 4,
        token_depth: int = 2,
        enhance_depth: int = 1,
        pos_grid: int = 24,
        mask_channels: int = 2,
        keys_as_queries: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        first, second, dims = embed_dims
        if dims % num_heads or dims % 4:
            raise ValueError(
                f'embed_dims={tuple(embed_dims)}: {dims} channels of the tokens must be a multiple of '
                f'num_heads={num_heads} and of 4'
            )
        self.embed_dims = tuple(embed_dims)
        self.mask_channels = mask_channels
        self.keys_as_queries = keys_as_queries
        self.patch_embed1_query = ConvPatchEmbed(3, first, 4)
        self.patch_embed1_memory = ConvPatchEmbed(3 + mask_channels, first, 4)
        self.patch_embed2 = ConvPatchEmbed(first, second, 2)
        self.patch_embed3 = ConvPatchEmbed(second, dims, 2)
        self.patch_embed4 = nn.Linear(dims, dims)
        self.patch_embed4_block4 = nn.Linear(dims, dims)
        self.patch_embed4_block5 = nn.Linear(dims, dims)
        self.pos_embed = nn.Parameter(sincos_table(dims, pos_grid))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims).normal_(std=0.02))
        self.blocks1 = conv_blocks(depths[0], first, mlp_ratio)
        self.blocks2 = conv_blocks(depths[1], second, mlp_ratio)
        self.blocks3 = joint_blocks(depths[2], dims, num_heads, mlp_ratio)
        self.blocks4 = joint_blocks(token_depth, dims, num_heads, mlp_ratio)
        self.blocks5 = joint_blocks(enhance_depth, dims, num_heads, mlp_ratio)
        self.norm = nn.LayerNorm(dims, eps=NORM_EPS)

    def init_weights(self) -> None:
        """Draw the linear layers, as published; convolutions keep PyTorch's own, norms are 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-2.0, b=2.0)
                nn.init.zeros_(module.bias)
        super().init_weights()
        if self.keys_as_queries:
            for block in self.blocks3:
                queries, keys, _ = block.attn.qkv.weight.data.chunk(3)
                keys.copy_(queries)

    def stem(self, image: Tensor) -> QueryStem:
        """Features of frames that are to be segmented, up to the joint blocks.

        Args:
            image: normalised, ``[B, 3, H, W]``.

        Raises:
            ValueError: H or W is no multiple of 16.
        """
        return self._embed(self.patch_embed1_query, image)

    def memorize(
        self, frames: Tensor, token: Tensor | None = None, topk: TopK | None = None
    ) -> tuple[FrameMemory, Tensor | None]:
        """Take frames with their masks into memory.

        Args:
            frames: normalised image, the object's own mask and, with two mask channels, the sum of the others',
                ``[B, 3 + mask_channels, H, W]``.
            token: to be updated by the frames, ``[B, 1, C]``; None: there is none to be updated.
            topk: as in :meth:`read`; matters only if it covers the token.

        Returns:
            What :meth:`read` needs of the frames, and the updated token.

        Raises:
            ValueError: H or W is no multiple of 16.
        """
        tokens = self._embed(self.patch_embed1_memory, frames).tokens
        if token is not None:
            token = token + self.pos_embed[:, :1]
        blocks = []
        depth = len(self.blocks3)
        for i, block in enumerate(self.blocks3):
            best = topk.in_block(i, depth) if topk is not None and topk.token else None
            tokens, token, seen = block(tokens, token, best, last=i == depth - 1)
            blocks.append(seen)
        return FrameMemory(tuple(blocks)), None if token is None else self.norm(token)

    def read(self, stem: QueryStem, memory: Sequence[FrameMemory], topk: TopK | None = None) -> Tensor:
        """Features of the current frames that know where the objects were.

        Args:
            stem: R images; R divides B, and each image serves B / R consecutive rows of the memory.
            memory: frames of B rows each, and of the size of the current ones.
            topk: how many tokens of the memory a token of the current frame sees; None: all.

        Returns:
            f16, ``[B, C, h, w]``.
        """
        tokens = stem.tokens
        depth = len(self.blocks3)
        for i, block in enumerate(self.blocks3):
            best = topk.in_block(i, depth) if topk is not None else None
            tokens = block.read(tokens, [frame.blocks[i] for frame in memory], best)
        return self._as_map(self.norm(tokens), stem.grid)

    def enhance(self, f16: Tensor, token: Tensor) -> Tensor:
        """Features that take from the compressed token what fits them.

        Args:
            f16: ``[B, C, h, w]``.
            token: ``[B, 1, C]``, not changed.

        Returns:
            ``[B, C, h, w]``.
        """
        tokens, token = self._embed_again(self.patch_embed4_block5, f16, token)
        for block in self.blocks5:
            tokens, token = block.enhance(tokens, token)
        return self._as_map(self.norm(tokens), f16.shape[2:])

    def update_token(self, fusion: Tensor, token: Tensor, topk: TopK | None = None) -> Tensor:
        """The compressed token after the decoder's feature.

        Args:
            fusion: ``[B, C, h, w]``.
            token: ``[B, 1, C]``.
            topk: as in :meth:`read`; matters only if it covers the token, then whatever blocks it names.

        Returns:
            ``[B, 1, C]``.
        """
        tokens, token = self._embed_again(self.patch_embed4_block4, fusion, token)
        best = topk if topk is not None and topk.token else None
        last = len(self.blocks4) - 1
        for i, block in enumerate(self.blocks4):
            tokens, token, _ = block(tokens, token, best, last=i == last)
        return self.norm(token)

    def _embed(self, first: nn.Module, frames: Tensor) -> QueryStem:
        """Run the stem; its first patch embedding is all in which current and memory frames differ."""
        height, width = frames.shape[2:]
        if height % STRIDE or width % STRIDE:
            raise ValueError(
                f'frames of {height}x{width} pixels do not divide into tokens of {STRIDE}x{STRIDE}: pad them to '
                f'multiples of {STRIDE}'
            )
        f4 = self.blocks1(first(frames))
        f8 = self.blocks2(self.patch_embed2(f4))
        tokens = self.patch_embed3(f8)
        grid = (tokens.shape[2], tokens.shape[3])
        tokens = self.patch_embed4(tokens.flatten(2).transpose(1, 2)) + grid_positions(self.pos_embed, *grid)
        return QueryStem(f4, f8, tokens, grid)

    def _embed_again(self, embed: nn.Module, maps: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``[B, h * w, C]`` of a feature, and the compressed token: both embedded anew, with positions."""
        tokens = embed(maps.flatten(2).transpose(1, 2)) + grid_positions(self.pos_embed, *maps.shape[2:])
        return tokens, embed(token) + self.pos_embed[:, :1]

    @staticmethod
    def _as_map(tokens: Tensor, grid: Sequence[int]) -> Tensor:
        return tokens.transpose(1, 2).unflatten(2, tuple(grid))
