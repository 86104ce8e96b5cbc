"""The encoder (sections 3.1 and 3.2 of the paper): a video ViT that thins out all frames but the key frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from mmaction.models.backbones.vit_mae import Block
from mmaction.registry import MODELS
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mvbench_plugins.common.video_vit import VideoVisionTransformer

from .pruning import TokenSelection, attend_and_score, take_tokens

_Output = TypeVar('_Output')


class ClipTokens(NamedTuple):
    """What is left of a batch of clips.

    Attributes:
        key_maps: the key frame after chosen blocks, not normalised, ``[B, C, h, w]`` each.
        key: tokens of the key frame after the last block, normalised, ``[B, h * w, C]``.
        others: the other tokens that were kept, likewise ``[B, k, C]``, in the order in which the last pruning left
            them: highest score first.
        positions: where they come from, ``[B, k]``: indices into the tokens outside of the key frame, slice by slice.
        grid: tokens of the whole clip in time, height and width.
    """

    key_maps: tuple[Tensor, ...]
    key: Tensor
    others: Tensor
    positions: Tensor
    grid: tuple[int, int, int]


@MODELS.register_module()
class KeyframeVisionTransformer(VideoVisionTransformer):
    """Video ViT that removes the tokens which get the least attention, except those of the key frame.

    The key frame lies in the middle: slice t // 2 of the t slices in time. Tokens are removed between the attention and
    the feed-forward layer of a pruning block.

    Args:
        keep_rate: share of the tokens that each pruning block keeps, in (0, 1]; the key frame always stays. It changes
            no parameter, so that it can be set anew at any time, for a trained model as well: :attr:`keep_rate`.
        prune_blocks: indices of the pruning blocks.
        enhanced_weight: weight of the attention that the key frame's tokens pay, in the score of the others.
        out_indices: blocks whose key frame is given out.
        kwargs: arguments of :class:`~mvbench_plugins.common.video_vit.VideoVisionTransformer`.

    Raises:
        ValueError: the keep rate is out of range, the backbone has no such block, or its blocks have layer scale.
    """

    def __init__(
        self,
        keep_rate: float = 0.7,
        prune_blocks: Sequence[int] = (3, 6, 9),
        enhanced_weight: float = 1.0,
        out_indices: Sequence[int] = (2, 5, 8, 11),
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.keep_rate = keep_rate
        self.prune_blocks = tuple(prune_blocks)
        self.enhanced_weight = enhanced_weight
        self.out_indices = tuple(out_indices)
        absent = sorted({*self.prune_blocks, *self.out_indices} - set(range(len(self.blocks))))
        if absent:
            raise ValueError(
                f'prune_blocks={self.prune_blocks} and out_indices={self.out_indices} name the blocks {absent}, the '
                f'backbone has depth={len(self.blocks)}: blocks count from 0'
            )
        if hasattr(self.blocks[0], 'gamma_1'):
            raise ValueError('init_values: blocks with layer scale are not supported, leave it at 0')
        self.selection = TokenSelection()

    @property
    def keep_rate(self) -> float:
        """Share of the tokens that each pruning block keeps."""
        return self._keep_rate

    @keep_rate.setter
    def keep_rate(self, keep_rate: float) -> None:
        if not 0 < keep_rate <= 1:
            raise ValueError(f'keep_rate={keep_rate} is no share of tokens to keep: expected 0 < keep_rate <= 1')
        self._keep_rate = keep_rate

    def forward(self, x: Tensor) -> ClipTokens:
        """Encode.

        Args:
            x: clips ``[B, 3, T, H, W]``.

        Raises:
            ValueError: the clip does not divide into patches, or has another number of frames than the position table
                was made for.
        """
        tokens, grid = self.embed(x)
        num_key = grid[1] * grid[2]
        middle = grid[0] // 2 * num_key
        before, key, after = tokens.split((middle, num_key, tokens.shape[1] - middle - num_key), dim=1)
        tokens = torch.cat([key, before, after], dim=1)
        positions = torch.arange(tokens.shape[1] - num_key, device=x.device).expand(len(x), -1)
        key_maps = []
        for i, block in enumerate(self.blocks):
            if i in self.prune_blocks and self.keep_rate < 1:
                tokens, scores = self._run(self._attend_and_score, block, tokens, num_key)
                kept = self.selection(scores, num_key, self.keep_rate)
                tokens = torch.cat([tokens[:, :num_key], take_tokens(tokens[:, num_key:], kept)], dim=1)
                positions = positions.gather(1, kept)
            else:
                tokens = self._run(_attend, block, tokens)
            tokens = self._run(_feed_forward, block, tokens)
            if i in self.out_indices:
                key_maps.append(tokens[:, :num_key].transpose(1, 2).unflatten(2, grid[1:]))
        tokens = self.norm(tokens)
        return ClipTokens(tuple(key_maps), tokens[:, :num_key], tokens[:, num_key:], positions, grid)

    def _run(self, part: Callable[..., _Output], block: Block, tokens: Tensor, *args: Any) -> _Output:
        """Run one half of a block; what it computes is not kept for the backward pass with ``with_cp``.

        Halves, since a selection between them must not be made twice: it could differ by rounding.
        """
        if self.with_cp and tokens.requires_grad:
            return checkpoint(part, block, tokens, *args, use_reentrant=False)
        return part(block, tokens, *args)

    def _attend_and_score(self, block: Block, tokens: Tensor, num_key: int) -> tuple[Tensor, Tensor]:
        attended, scores = attend_and_score(block.attn, block.norm1(tokens), num_key, self.enhanced_weight)
        return tokens + block.drop_path(attended), scores


def _attend(block: Block, tokens: Tensor) -> Tensor:
    return tokens + block.drop_path(block.attn(block.norm1(tokens)))


def _feed_forward(block: Block, tokens: Tensor) -> Tensor:
    return tokens + block.drop_path(block.mlp(block.norm2(tokens)))
