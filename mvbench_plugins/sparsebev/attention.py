"""Scale-adaptive self-attention: each query and head decides how far it looks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from .boxes import XY, place_in_metres


class ScaleAdaptiveSelfAttention(BaseModule):
    """Self-attention among boxes whose logits fall with their distance (paper, section 3.2).

    The logit of query q, key k and head h is lowered by ``tau[q, h] * distance``, where q computes tau itself: 0 is a
    global view, large ones are local. Distances are in metres on the ground and carry no gradient.

    Args:
        embed_dims: width C of the queries.
        num_heads: attention heads.
        dropout: of the attention weights.
        pc_range: range in metres that the boxes are relative to.
    """

    def __init__(self, embed_dims: int, num_heads: int, dropout: float, pc_range: Sequence[float]) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(embed_dims, num_heads, dropout, batch_first=True)
        self.gen_tau = nn.Linear(embed_dims, num_heads)
        self.register_buffer('pc_range', torch.tensor(pc_range, dtype=torch.float32), persistent=False)

    def init_weights(self) -> None:
        """Every query starts with the same tau, a different one in each head."""
        super().init_weights()
        nn.init.zeros_(self.gen_tau.weight)
        nn.init.uniform_(self.gen_tau.bias, 0.0, 2.0)

    def forward(self, boxes: Tensor, feats: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Attend, and add to the queries.

        Args:
            boxes: query boxes ``[B, Q, 10]``.
            feats: ``[B, Q, C]``.
            blocked: ``[Q, Q]``, True where a query (row) must not see a key (column).

        Returns:
            ``[B, Q, C]``.
        """
        tau = self.gen_tau(feats).transpose(1, 2)[..., None]  # [B, heads, Q, 1]
        bias = -tau * self.distances(boxes)[:, None]  # [B, heads, Q, Q]
        if blocked is not None:
            bias = bias.masked_fill(blocked, float('-inf'))
        return feats + self.attention(feats, feats, feats, attn_mask=bias.flatten(0, 1), need_weights=False)[0]

    @torch.no_grad()
    def distances(self, boxes: Tensor) -> Tensor:
        """Distances ``[B, Q, Q]`` of the boxes' centres on the ground, in metres."""
        centres = place_in_metres(boxes, self.pc_range)[..., XY]
        # Not by a matrix product, which loses the digits of near neighbours.
        return torch.cdist(centres, centres, compute_mode='donot_use_mm_for_euclid_dist')
