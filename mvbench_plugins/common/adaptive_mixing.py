"""Adaptive mixing: a tiny per-query MLP whose weights the query itself generates."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn


class AdaptiveMixing(BaseModule):
    """Adaptive channel mixing, then adaptive spatial mixing, of sampled features.

    AdaMixer, arXiv 2203.16507, equations 8 to 12. Per query and group, one linear layer turns the query into a channel
    matrix ``M`` and a point matrix ``S``; the sampled points ``X`` become ``relu(LN(S relu(LN(X M))))``, are flattened,
    projected to the query's width and added to it. ``LN`` normalises over points and channels jointly and has no affine
    parameters, as released weights require.

    Args:
        query_dim: width of the query that generates the parameters and receives the result.
        feat_dim: channels of the sampled features, all groups together.
        in_points: sampled points per group.
        out_points: points per group after spatial mixing.
        num_groups: groups that are mixed independently.
    """

    def __init__(self, query_dim: int, feat_dim: int, in_points: int, out_points: int, num_groups: int) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.group_dim = feat_dim // num_groups
        self.in_points = in_points
        self.out_points = out_points
        self._split = [self.group_dim**2, in_points * out_points]
        self.parameter_generator = nn.Linear(query_dim, num_groups * sum(self._split))
        self.out_proj = nn.Linear(num_groups * out_points * self.group_dim, query_dim)

    def init_weights(self) -> None:
        """Xavier projection; the generator starts as its bias alone, the same mixing for every query."""
        super().init_weights()
        for linear in (self.parameter_generator, self.out_proj):
            linear.reset_parameters()
        nn.init.zeros_(self.parameter_generator.weight)
        nn.init.xavier_uniform_(self.out_proj.weight)

    def forward(self, points: Tensor, query: Tensor) -> Tensor:
        """Mix and add to the query.

        Args:
            points: sampled features ``[B, N, G, in_points, feat_dim / G]``.
            query: ``[B, N, query_dim]``.

        Returns:
            ``[B, N, query_dim]``.
        """
        params = self.parameter_generator(query).unflatten(-1, (self.num_groups, -1))
        channel, spatial = params.split(self._split, dim=-1)
        channel = channel.unflatten(-1, (self.group_dim, self.group_dim))
        spatial = spatial.unflatten(-1, (self.out_points, self.in_points))
        mixed = self._norm_relu(points @ channel)  # [B, N, G, in_points, c]
        mixed = self._norm_relu(spatial @ mixed)  # [B, N, G, out_points, c]
        return query + self.out_proj(mixed.flatten(2))

    @staticmethod
    def _norm_relu(x: Tensor) -> Tensor:
        return F.relu(F.layer_norm(x, x.shape[-2:]), inplace=True)
