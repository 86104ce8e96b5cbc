"""Keyframe-centric token pruning (section 3.2 of the paper): which tokens of the other frames go on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mvbench_plugins.common.video_vit import FusedAttention

#: Attention weights held at once: 16 MB of float32 stay in the cache of a CPU; a GPU wants few, large steps.
_CHUNK_CPU, _CHUNK_GPU = 1 << 22, 1 << 26


def attend_and_score(
    attention: FusedAttention, x: Tensor, num_key: int, enhanced_weight: float
) -> tuple[Tensor, Tensor]:
    """Self-attention, and how much attention each token receives.

    The score of a token is the mean attention that it gets, over all queries and heads, after that of the key frame's
    queries was multiplied by ``enhanced_weight``. No gradient passes through it.

    Weights are needed of all queries, and are computed for a few of them at a time; without gradients the same weights
    mix the values, with gradients the mixing is left to the fused attention, which does not keep them.

    Args:
        attention: of the block.
        x: ``[B, N, C]``, the key frame's tokens first.
        num_key: tokens of the key frame.
        enhanced_weight: weight of the attention that the key frame pays.

    Returns:
        The attended tokens ``[B, N, C]``, and scores ``[B, N - num_key]`` of the others.
    """
    query, key, value = attention.project(x)
    fused = torch.is_grad_enabled() and query.requires_grad
    mixed = [attention.attend(query, key, value)] if fused else []
    with torch.no_grad():
        batch, heads, num_tokens = query.shape[:3]
        chunk = _CHUNK_CPU if x.device.type == 'cpu' else _CHUNK_GPU
        step = max(chunk // (batch * heads * num_tokens), 1)
        scores, dtype = 0.0, torch.promote_types(query.dtype, torch.float32)
        for part, weight in ((query[:, :, :num_key], enhanced_weight), (query[:, :, num_key:], 1.0)):
            for rows in (part * attention.scale).split(step, dim=2):
                attended = (rows @ key.transpose(-2, -1)).softmax(-1)
                scores = scores + attended[..., num_key:].sum((1, 2), dtype=dtype) * weight
                if not fused:
                    mixed.append(attended.to(value.dtype) @ value)
        scores = scores / (heads * num_tokens)
    return attention.merge(torch.cat(mixed, dim=2)), scores


class TokenSelection(nn.Module):
    """The tokens that go on: all of the key frame, and of the others those that get the most attention.

    A module, so that what it selects can be watched with a forward hook.
    """

    def forward(self, scores: Tensor, num_key: int, keep_rate: float) -> Tensor:
        """Select.

        Args:
            scores: of the tokens outside of the key frame, ``[B, n]``.
            num_key: tokens of the key frame; they count as kept.
            keep_rate: share of all tokens to keep.

        Returns:
            Indices ``[B, k]`` of the kept ones, highest score first; in their own order if all are kept.
        """
        # The product is rounded as a Python float: a tensor's would give another count at times.
        kept = max(math.ceil(keep_rate * (num_key + scores.shape[1])) - num_key, 0)
        if kept == scores.shape[1]:
            return torch.arange(kept, device=scores.device).expand(len(scores), -1)
        return scores.topk(kept, dim=1).indices


def take_tokens(tokens: Tensor, indices: Tensor) -> Tensor:
    """Tokens ``[B, k, C]`` at the indices ``[B, k]``."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[-1]))
