"""Attention among the tokens of a frame and those of frames in memory, over all of them or the best k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Scores that top-k attention holds at a time, 32 MiB in single precision, and as many weights: queries go in chunks of
#: as many as fit. Larger ones are slower on a CPU, smaller ones would be on a GPU.
MAX_SCORES = 2**23

_SCOPES = ('all_frames', 'every_frame')
_BLOCKS = ('all_blocks', 'half', 'last_block')


class KeyValue(NamedTuple):
    """Keys and values of the tokens of one frame, ``[B, heads, N, C / heads]`` each."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class FrameMemory:
    """A memorised frame, as its readers see it.

    Attributes:
        blocks: keys and values of its tokens in each joint block, ``[B, heads, h * w, C / heads]``.
    """

    blocks: tuple[KeyValue, ...]

    def __len__(self) -> int:
        """Rows B."""
        return len(self.blocks[0].key)

    def select(self, rows: slice) -> FrameMemory:
        """Some rows, which share the storage."""
        return FrameMemory(tuple(KeyValue(key[rows], value[rows]) for key, value in self.blocks))

    def clone(self) -> FrameMemory:
        """A copy, which keeps no other rows alive."""
        return FrameMemory(tuple(KeyValue(key.clone(), value.clone()) for key, value in self.blocks))

    @staticmethod
    def cat(memories: Sequence[FrameMemory]) -> FrameMemory:
        """The rows of all of them, one memory after the other."""
        if len(memories) == 1:
            return memories[0]
        return FrameMemory(
            tuple(KeyValue(*map(torch.cat, zip(*block))) for block in zip(*(memory.blocks for memory in memories)))
        )


@dataclass(frozen=True)
class TopK:
    """How many tokens of the memory a query looks at, at test time; those of its own frame it sees all.

    Args:
        k: the largest scores that are kept, per head and query; more than there are tokens keeps them all.
        scope: ``'all_frames'``: k of all frames together; ``'every_frame'``: k of each frame.
        blocks: ``'all_blocks'``, ``'half'`` (the later ones) or ``'last_block'``.
        token: whether the compressed token as well looks at itself and k tokens only, when it is updated.

    Raises:
        ValueError: one of them is no such choice.
    """

    k: int = 60
    scope: Literal['all_frames', 'every_frame'] = 'all_frames'
    blocks: Literal['all_blocks', 'half', 'last_block'] = 'all_blocks'
    token: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or self.k < 1:
            raise ValueError(
                f'topk: k={self.k!r}, expected a whole number of at least 1; topk=None sees the whole memory'
            )
        if self.scope not in _SCOPES:
            raise ValueError(f'topk: scope={self.scope!r}, expected one of {_SCOPES}')
        if self.blocks not in _BLOCKS:
            raise ValueError(f'topk: blocks={self.blocks!r}, expected one of {_BLOCKS}')

    def in_block(self, index: int, depth: int) -> TopK | None:
        """Itself if block number ``index`` of ``depth`` selects, else None."""
        first = dict(all_blocks=0, half=depth // 2, last_block=depth - 1)[self.blocks]
        return self if index >= first else None


def attend(query: Tensor, own: KeyValue, others: Sequence[KeyValue] = (), topk: TopK | None = None) -> Tensor:
    """Values mixed by softmax attention.

    Args:
        query: ``[R, heads, M, C / heads]``; R divides B, each row then serves B / R consecutive ones.
        own: tokens that every query sees, R rows as well.
        others: frames of B rows and equal numbers of tokens, of which a query sees all or the best.
        topk: how many of the others a query sees; None: all.

    Returns:
        ``[B, heads, M, C / heads]``.
    """
    if not others:
        return F.scaled_dot_product_attention(query, *own)
    rows = len(others[0].key)
    query = expand_rows(query, rows)
    key, value = (
        torch.cat([expand_rows(mine, rows), *theirs], dim=2) for mine, theirs in zip(own, zip(*others), strict=True)
    )
    groups = len(others) if topk is not None and topk.scope == 'every_frame' else 1
    if topk is None or topk.k * groups >= sum(frame.key.shape[2] for frame in others):
        return F.scaled_dot_product_attention(query, key, value)
    return _attend_best(query, key, value, own.key.shape[2], groups, topk.k)


def _attend_best(query: Tensor, key: Tensor, value: Tensor, num_own: int, groups: int, k: int) -> Tensor:
    """Softmax attention over the first ``num_own`` keys and the k best of each of ``groups`` equal parts of the rest.

    Only so many queries at a time that their scores stay below :data:`MAX_SCORES`.
    """
    rows, heads, num_keys = key.shape[:3]
    key = (key * query.shape[-1] ** -0.5).transpose(2, 3)
    mixed = []
    for part in query.split(max(1, MAX_SCORES // (rows * heads * num_keys)), dim=2):
        scores = part @ key  # [B, heads, queries, keys]
        own, others = scores[..., :num_own], scores[..., num_own:].unflatten(-1, (groups, -1))  # views
        best, index = _largest(others, k)
        # The softmax sees only what counts, which is little; for the values its weights go back to their places.
        weights = torch.cat([own, best.flatten(-2)], dim=-1).softmax(-1).to(value.dtype)
        kept = weights[..., num_own:].unflatten(-1, (groups, k))
        spread = torch.zeros_like(others, dtype=value.dtype).scatter_(-1, index, kept).flatten(-2)
        mixed.append(weights[..., :num_own] @ value[:, :, :num_own] + spread @ value[:, :, num_own:])
    return torch.cat(mixed, dim=2)


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest scores along the last dimension and their indices, in any order, as of :meth:`torch.Tensor.topk`.

    To select among thousands would take longer than attention itself. Dealt out to hands of ``size`` scores, the k
    largest are all in the k hands with the largest maxima, and only those are looked at.
    """
    num_scores = scores.shape[-1]
    size = math.isqrt(num_scores // k)  # as many hands as scores that are looked at then
    if size < 3:  # next to nothing would be left out
        return scores.topk(k, sorted=False)
    num_hands = num_scores // size
    dealt = num_hands * size
    maxima = scores[..., :dealt].detach().unflatten(-1, (size, num_hands)).amax(-2)
    hands = maxima.topk(k, sorted=False).indices
    steps = torch.arange(0, dealt, num_hands, device=scores.device)
    left = torch.arange(dealt, num_scores, device=scores.device).expand(*scores.shape[:-1], -1)
    candidates = torch.cat([(hands[..., None] + steps).flatten(-2), left], dim=-1)
    best, index = scores.gather(-1, candidates).topk(k, sorted=False)
    return best, candidates.gather(-1, index)


def expand_rows(x: Tensor, rows: int) -> Tensor:
    """Each row of a batch for as many consecutive rows that there are ``rows``; the objects of an image share it."""
    return x[:, None].expand(-1, rows // len(x), *x.shape[1:]).flatten(0, 1)


class JointAttention(nn.Module):
    """Projections of multi-head attention; who sees whom is the caller's affair.

    Args:
        embed_dims: channels C of the tokens.
        num_heads: attention heads.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def queries(self, x: Tensor) -> Tensor:
        """Queries ``[B, heads, N, C / heads]`` of tokens ``[B, N, C]``."""
        return self._project(x, 0, 1)[0]

    def keys_values(self, x: Tensor) -> KeyValue:
        """Keys and values of tokens ``[B, N, C]``; apart from the queries, which need not live as long."""
        return KeyValue(*self._project(x, 1, 3))

    def merge(self, mixed: Tensor) -> Tensor:
        """Output projection ``[B, N, C]`` of what the heads mixed, ``[B, heads, N, C / heads]``."""
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _project(self, x: Tensor, start: int, stop: int) -> tuple[Tensor, ...]:
        """Parts ``start`` to ``stop`` of queries, keys and values."""
        rows = slice(start * x.shape[-1], stop * x.shape[-1])
        projected = F.linear(x, self.qkv.weight[rows], self.qkv.bias[rows])
        # Heads are made of whole parts: [B, N, parts * C] -> parts of [B, heads, N, C / heads].
        parts = projected.unflatten(-1, (stop - start, self.num_heads, -1))
        return tuple(parts.permute(2, 0, 3, 1, 4).unbind())
