"""One decoder stage (section 3 of the paper): attention, sampling, dual-branch mixing, feed-forward, three heads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule, bias_init_with_prob
from torch import Tensor, nn

from mvbench_plugins.common.adaptive_mixing import AdaptiveMixing
from mvbench_plugins.common.precision import at_least_float32
from mvbench_plugins.common.xyzr import decode_xyzr, log_iof, xyzr_embedding
from mvbench_plugins.ops.pyramid_sampling import FlatPyramid

from .sampling import sample_clip, sampling_points


class Queries(NamedTuple):
    """What one stage hands to the next.

    Attributes:
        position: boxes as xyzr ``[B, N, 4]``, see :mod:`mvbench_plugins.common.xyzr`.
        spatial: content of the spatial branch ``[B, N, C]``.
        temporal: content of the temporal branch ``[B, N, C]``.
    """

    position: Tensor
    spatial: Tensor
    temporal: Tensor


class Predictions(NamedTuple):
    """What one stage predicts.

    Attributes:
        person_logits: ``[B, N, 2]``; 0 is person, 1 is background.
        action_logits: ``[B, N, num_classes]``, before the sigmoid.
        boxes: corner boxes ``[B, N, 4]`` in pixels of the padded clip, not clipped.
    """

    person_logits: Tensor
    action_logits: Tensor
    boxes: Tensor


def _mlp(channels: int, out_channels: int) -> nn.Sequential:
    """One hidden layer, and the output layer at index 3."""
    return nn.Sequential(
        nn.Linear(channels, channels), nn.LayerNorm(channels), nn.ReLU(True), nn.Linear(channels, out_channels)
    )


class QueryBranch(BaseModule):
    """Attention, adaptive mixing and feed-forward of one of the two contents of a query.

    Args:
        embed_dims: width C of the content.
        num_heads: attention heads.
        in_points: what is mixed: sampled points for the spatial branch, frames for the temporal one.
        out_points: the same after mixing.
        num_groups: groups of channels.
        feedforward_channels: hidden width of the feed-forward block.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        in_points: int,
        out_points: int,
        num_groups: int,
        feedforward_channels: int,
    ) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(embed_dims, num_heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(embed_dims)
        self.mixing = AdaptiveMixing(embed_dims, embed_dims, in_points, out_points, num_groups)
        self.mixing_norm = nn.LayerNorm(embed_dims)
        self.ffn = FFN(embed_dims, feedforward_channels)
        self.ffn_norm = nn.LayerNorm(embed_dims)

    def attend(self, content: Tensor, embedding: Tensor, bias: Tensor) -> Tensor:
        """Attention among queries; the position embedding stays in the values and in the residual.

        Args:
            content: ``[B, N, C]``.
            embedding: position embedding ``[B, N, C]``.
            bias: added to the attention logits, ``[B * heads, N, N]``.
        """
        query = content + embedding
        attended = self.attention(query, query, query, attn_mask=bias, need_weights=False)[0]
        return self.attention_norm(query + attended)

    def mix(self, sampled: Tensor, content: Tensor) -> Tensor:
        """Mix sampled features ``[B, N, G, in_points, C / G]`` into the content ``[B, N, C]``."""
        return self.ffn_norm(self.ffn(self.mixing_norm(self.mixing(sampled, content))))


class STMixerDecoderStage(BaseModule):
    """One refinement of all queries of a clip.

    Args:
        num_classes: number of actions.
        num_frames: frames T of the feature space.
        embed_dims: width C of both contents and of the feature space.
        num_heads: attention heads.
        num_points: sampled points per group.
        num_groups: groups of channels that are sampled and mixed independently.
        out_multiplier: points (frames) after mixing per point (frame) before.
        feedforward_channels: hidden width of the feed-forward blocks.
    """

    def __init__(
        self,
        num_classes: int = 80,
        num_frames: int = 8,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_points: int = 32,
        num_groups: int = 4,
        out_multiplier: int = 4,
        feedforward_channels: int = 2048,
    ) -> None:
        super().__init__()
        if embed_dims % 8 or embed_dims % num_heads or embed_dims % num_groups:
            raise ValueError(
                f'embed_dims ({embed_dims}) must be a multiple of 8, of num_heads ({num_heads}) and of num_groups '
                f'({num_groups})'
            )
        self.embed_dims = embed_dims
        self.num_frames = num_frames
        self.num_points = num_points
        self.num_groups = num_groups
        self.iof_tau = nn.Parameter(torch.ones(num_heads))
        shared = dict(num_groups=num_groups, feedforward_channels=feedforward_channels)
        self.spatial = QueryBranch(embed_dims, num_heads, num_points, out_multiplier * num_points, **shared)
        self.temporal = QueryBranch(embed_dims, num_heads, num_frames, out_multiplier * num_frames, **shared)
        self.sampling_offset = nn.Linear(embed_dims, num_groups * num_points * 3)
        self.person_head = _mlp(embed_dims, 2)
        self.box_head = _mlp(embed_dims, 4)
        self.action_head = _mlp(2 * embed_dims, num_classes)

    def init_weights(self) -> None:
        """Xavier matrices; action bias at prior 0.01; the first box update is the identity; ``tau ~ U(0, 4)``.

        Sampling points start spread over the box, at its own scale, the same for every query.
        """
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.spatial.mixing.init_weights()
        self.temporal.mixing.init_weights()
        nn.init.constant_(self.action_head[-1].bias, bias_init_with_prob(0.01))
        nn.init.zeros_(self.box_head[-1].weight)
        nn.init.zeros_(self.box_head[-1].bias)
        nn.init.uniform_(self.iof_tau, 0.0, 4.0)
        nn.init.zeros_(self.sampling_offset.weight)
        offset = self.sampling_offset.bias.data.view(-1, 3)
        nn.init.uniform_(offset[:, :2], -0.5, 0.5)
        nn.init.zeros_(offset[:, 2])

    def forward(self, pyramid: FlatPyramid, queries: Queries) -> tuple[Queries, Predictions]:
        """One refinement; gradients flow through contents and boxes alike.

        Args:
            pyramid: from :func:`~mvbench_plugins.stmixer.sampling.flatten_clip_pyramid`.
            queries: current queries.

        Returns:
            The refined queries, and what they predict.
        """
        position, spatial, temporal = queries
        with torch.no_grad():
            log_overlap = log_iof(decode_xyzr(position))[:, None]  # [B, 1, N, N]
            embedding = xyzr_embedding(position, self.embed_dims)
        bias = (log_overlap * self.iof_tau.view(1, -1, 1, 1)).flatten(0, 1)  # [B * heads, N, N]
        spatial = self.spatial.attend(spatial, embedding, bias)
        temporal = self.temporal.attend(temporal, embedding, bias)

        offsets = at_least_float32(self.sampling_offset(spatial)).unflatten(-1, (self.num_groups, self.num_points, 3))
        sampled = sample_clip(pyramid, sampling_points(position, offsets), self.num_frames)  # [B, N, G, T, P, c]
        spatial = self.spatial.mix(sampled.mean(3), spatial)
        temporal = self.temporal.mix(sampled.mean(4), temporal)

        delta = at_least_float32(self.box_head(spatial))
        # Both centre coordinates move in units of the box scale 2^z, not of width and height.
        centre = position[..., :2] + delta[..., :2] * torch.exp2(position[..., 2:3])
        position = torch.cat([centre, position[..., 2:] + delta[..., 2:]], dim=-1)
        predictions = Predictions(
            self.person_head(spatial), self.action_head(torch.cat([spatial, temporal], dim=-1)), decode_xyzr(position)
        )
        return Queries(position, spatial, temporal), predictions
