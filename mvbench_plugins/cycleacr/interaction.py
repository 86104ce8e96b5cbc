"""The interaction block: queries look at a set of features (section 3 of the paper); every relation here is one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn


class InteractionBlock(BaseModule):
    """Attention with one head, a norm over all of a query's tokens together, and a residual.

    Features that stand for nobody are zeros and take part like all others: released weights were trained so.

    Args:
        dim: width of queries and of what they look at.
        out_dim: width of the result; another one than ``dim`` puts a projection into the residual.
        dropout: on the result, before the residual.
        num_slots: groups of equally many features that get a learnt position each, 0 for none.
    """

    def __init__(self, dim: int, out_dim: int | None = None, dropout: float = 0.2, num_slots: int = 0) -> None:
        super().__init__()
        out_dim = out_dim or dim
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, out_dim)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Linear(dim, out_dim) if out_dim != dim else nn.Identity()
        self.num_slots = num_slots
        if num_slots:
            self.key_position = nn.Parameter(torch.zeros(num_slots, dim))
            self.value_position = nn.Parameter(torch.zeros(num_slots, dim))

    def init_weights(self) -> None:
        """Start as the identity (or the projection): what the attention finds is multiplied by zero."""
        for linear in (self.query, self.key, self.value, self.shortcut):
            if isinstance(linear, nn.Linear):
                nn.init.normal_(linear.weight, std=0.01)
                nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, others: Tensor, place: tuple[Tensor, Tensor, int] | None = None) -> Tensor:
        """Let each query look at its set.

        Args:
            x: queries ``[n, t, dim]``.
            others: sets ``[n, m, dim]``, or with ``place`` ``[B, m, dim]``.
            place: for queries of one token that share sets: which set each looks at ``[n]``, its number among those
                that do ``[n]``, and the largest number of queries per set. None: each query has a set of its own.

        Returns:
            ``[n, t, out_dim]``.
        """
        key, value = self.key(others), self.value(others)
        if self.num_slots:
            repeats = others.shape[1] // self.num_slots
            key = key + self.key_position.repeat_interleave(repeats, dim=0)
            value = value + self.value_position.repeat_interleave(repeats, dim=0)
        query = self.query(x)
        if place is None:
            found = F.scaled_dot_product_attention(query, key, value)
        else:  # queries side by side, so that sets need not be repeated
            owner, number, most = place
            beside = query.new_zeros(len(others), most, query.shape[-1])
            beside[owner, number] = query[:, 0]
            found = F.scaled_dot_product_attention(beside, key, value)[owner, number][:, None]
        # One mean and variance for all tokens of a query; products of 1024 numbers want float32.
        found = F.layer_norm(found.float(), found.shape[1:]).to(x.dtype)
        return self.dropout(self.out(found.relu())) + self.shortcut(x)
