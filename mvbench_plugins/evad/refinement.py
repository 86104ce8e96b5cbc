"""The context refinement decoder (section 3.4 of the paper): people look at the tokens that were kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmaction.models.backbones.vit_mae import Block, get_sinusoid_encoding
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mvbench_plugins.common.video_vit import fit_positions, fuse_attention

from .action_rois import ActionRoIPooling, extend_boxes
from .backbone import ClipTokens
from .pruning import take_tokens


class ContextRefinement(BaseModule):
    """From tokens and boxes to action logits.

    The map of the whole clip is rebuilt from the kept tokens, with a learnt token where one was removed; the people's
    features are pooled from it and refined, together with the kept tokens, by a small transformer.

    Args:
        in_channels: width of the encoder.
        num_classes: number of actions.
        num_frames: slices t of the clip in time.
        embed_dims: width.
        depth: blocks; each has its own action classifier.
        num_heads: attention heads.
        hidden_dim: hidden width of a classifier.
        drop_path_rate: stochastic depth of the last block; it grows from 0.
        extend: share of width and height by which boxes are enlarged to action RoIs.
        patch_size: pixels per token in space.
        roi_size: bins per side of an action RoI.
        pos_grid: tokens in height and width of the position table before it is resized.
        keep_places: put kept tokens back to where they came from. The released models do not: tokens leave the
            pruning by falling score and are written to the kept places in their order on the map, and their weights
            rely on it. For new training.
        with_cp: recompute the blocks in the backward pass.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_frames: int = 8,
        embed_dims: int = 384,
        depth: int = 6,
        num_heads: int = 6,
        hidden_dim: int = 2048,
        drop_path_rate: float = 0.1,
        extend: tuple[float, float] = (0.4, 0.2),
        patch_size: int = 16,
        roi_size: int = 7,
        pos_grid: tuple[int, int] = (14, 14),
        keep_places: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.extend = (extend[0], extend[1])
        self.keep_places = keep_places
        self.with_cp = with_cp
        self.pos_grid = (pos_grid[0], pos_grid[1])
        self.encoder_to_decoder = nn.Linear(in_channels, embed_dims, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        positions = get_sinusoid_encoding(num_frames * pos_grid[0] * pos_grid[1], embed_dims)
        self.register_buffer('pos_embed', positions, persistent=False)
        self.pooling = ActionRoIPooling(patch_size, roi_size)
        rates = torch.linspace(0, drop_path_rate, depth).tolist()
        self.blocks = ModuleList(  # mmengine's: torch's own would end the chain of init_weights()
            fuse_attention(Block(embed_dims, num_heads, drop_path_rate=rate)) for rate in rates
        )
        self.action_heads = ModuleList(
            nn.Sequential(
                nn.Linear(embed_dims, hidden_dim, bias=False),
                nn.LayerNorm(hidden_dim),
                nn.ReLU(inplace=True),
                nn.Linear(hidden_dim, num_classes),
            )
            for _ in range(depth)
        )

    def init_weights(self) -> None:
        """Xavier uniform for all matrices, zero for the vectors of the blocks' linear layers."""
        super().init_weights()
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, tokens: ClipTokens, boxes: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Classify.

        Args:
            tokens: of the encoder.
            boxes: corner boxes of the people ``[B, N, 4]`` in pixels.
            shapes: height and width of each clip in pixels, before padding.

        Returns:
            Action logits ``[B, N, num_classes]`` of each block; only the last block's in eval mode.
        """
        visible, maps = self.restore(tokens)
        people = self.pooling(maps, extend_boxes(boxes, self.extend, shapes)).to(visible.dtype)
        features = torch.cat([visible, people], dim=1)
        num_people, last = people.shape[1], len(self.blocks) - 1
        logits = []
        for i, (block, head) in enumerate(zip(self.blocks, self.action_heads, strict=True)):
            # Nobody asks what becomes of the other tokens in the last block.
            num_queries = num_people if i == last else features.shape[1]
            if self.with_cp and features.requires_grad:
                features = checkpoint(_refine, block, features, num_queries, use_reentrant=False)
            else:
                features = _refine(block, features, num_queries)
            if self.training or i == last:
                logits.append(head(features[:, -num_people:]))
        return logits

    def restore(self, tokens: ClipTokens) -> tuple[Tensor, Tensor]:
        """Narrow the tokens, give them positions, and rebuild the map of the clip.

        Args:
            tokens: of the encoder.

        Returns:
            The kept tokens ``[B, h * w + k, C]``, the key frame's first, and the map ``[B, t, h, w, C]``.
        """
        num_slices, height, width = tokens.grid
        num_key = height * width
        middle = num_slices // 2 * num_key
        positions = fit_positions(self.pos_embed, self.pos_grid, tokens.grid)
        key_position = positions[:, middle : middle + num_key]
        other_positions = torch.cat([positions[:, :middle], positions[:, middle + num_key :]], dim=1)

        key, others = self.encoder_to_decoder(torch.cat([tokens.key, tokens.others], dim=1)).split(
            (num_key, tokens.others.shape[1]), dim=1
        )
        places = tokens.positions if self.keep_places else tokens.positions.sort(dim=1).values
        key = key + key_position
        others = others + take_tokens(other_positions.expand(len(others), -1, -1), places)
        canvas = (self.mask_token + other_positions).to(others.dtype).expand(len(others), -1, -1)
        canvas = canvas.scatter(1, places[..., None].expand_as(others), others)
        maps = torch.cat([canvas[:, :middle], key, canvas[:, middle:]], dim=1).unflatten(1, tokens.grid)
        return torch.cat([key, others], dim=1), maps


def _refine(block: Block, tokens: Tensor, num_queries: int) -> Tensor:
    """One block, for the last ``num_queries`` tokens ``[B, N, C]``."""
    attended = block.attn(block.norm1(tokens), num_queries)
    tokens = tokens[:, -num_queries:] + block.drop_path(attended)
    return tokens + block.drop_path(block.mlp(block.norm2(tokens)))
