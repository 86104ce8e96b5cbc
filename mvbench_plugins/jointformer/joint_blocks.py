"""The block of the joint transformer: one set of weights, of which each use lets other tokens see each other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from .attention import JointAttention, KeyValue, TopK, attend, expand_rows

#: Epsilon of the norms among tokens; the stems have PyTorch's 1e-5.
NORM_EPS = 1e-6


def feed_forward(layer: Callable[[int, int], nn.Module], dims: int, ratio: int) -> nn.Sequential:
    """Two layers with an exact GELU between them; ``layer`` makes one from its channels in and out."""
    hidden = ratio * dims
    return nn.Sequential(OrderedDict(fc1=layer(dims, hidden), act=nn.GELU(), fc2=layer(hidden, dims)))


class JointBlock(nn.Module):
    """Pre-norm transformer block (paper, section 3.2).

    The information flow is asymmetric. Tokens of a frame see those of the same frame; those of the current frame also
    see the frames in memory (:meth:`read`); the compressed token sees the frame that it is updated by, and nobody sees
    the compressed token except in :meth:`enhance`, where it is all that is seen.

    Args:
        embed_dims: channels C of the tokens.
        num_heads: attention heads.
        mlp_ratio: hidden channels of the feed-forward layer over C.
    """

    def __init__(self, embed_dims: int, num_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=NORM_EPS)
        self.attn = JointAttention(embed_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims, eps=NORM_EPS)
        self.mlp = feed_forward(nn.Linear, embed_dims, mlp_ratio)

    def forward(
        self, frame: Tensor, token: Tensor | None = None, topk: TopK | None = None, last: bool = False
    ) -> tuple[Tensor | None, Tensor | None, KeyValue]:
        """A frame by itself, and the compressed token by that frame.

        Args:
            frame: tokens ``[B, N, C]``.
            token: ``[B, 1, C]``; None: no token is updated.
            topk: the token sees itself and k tokens of the frame; None: itself and all of them.
            last: nobody reads what becomes of the frame, and it is not computed.

        Returns:
            The frame after the block (None if last), the token after it, and the keys and values of the frame before
            it, which are what readers need to know of the frame.
        """
        normed = self.norm1(frame)
        seen = self.attn.keys_values(normed)
        if token is not None:
            by_itself = self.norm1(token)
            mixed = attend(self.attn.queries(by_itself), self.attn.keys_values(by_itself), [seen], topk)
            token = self._finish(token, mixed)
        after = None if last else self._finish(frame, attend(self.attn.queries(normed), seen))
        return after, token, seen

    def read(self, frame: Tensor, memory: Sequence[KeyValue], topk: TopK | None = None) -> Tensor:
        """A frame by itself and the frames in memory.

        Args:
            frame: tokens ``[R, N, C]``, R divides B.
            memory: of each frame in memory, B rows.
            topk: how many tokens of the memory a query sees; None: all.

        Returns:
            ``[B, N, C]``; each row of ``frame`` served B / R consecutive rows of the memory.
        """
        normed = self.norm1(frame)
        mixed = attend(self.attn.queries(normed), self.attn.keys_values(normed), memory, topk)
        return self._finish(expand_rows(frame, len(mixed)), mixed)

    def enhance(self, frame: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """A frame by the compressed token alone: a gate per head and place says how much of it a place takes.

        Args:
            frame: tokens ``[B, N, C]``.
            token: ``[B, 1, C]``.

        Returns:
            The frame and the token after the block; the token sees nobody, its norm takes the place of what it saw.
        """
        query = self.attn.queries(self.norm1(frame))
        alone = self.norm1(token)
        key, value = self.attn.keys_values(alone)
        gate = ((query * key).sum(-1, keepdim=True) * query.shape[-1] ** -0.5).sigmoid()  # one key: no softmax
        frame = self._finish(frame, (gate * value).to(value.dtype))
        token = token + self.attn.proj(alone)
        return frame, token + self.mlp(self.norm2(token))

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows attention: output projection and feed-forward layer, each added."""
        x = x + self.attn.merge(mixed)
        return x + self.mlp(self.norm2(x))


def joint_blocks(depth: int, embed_dims: int, num_heads: int, mlp_ratio: int) -> nn.ModuleList:
    """``depth`` blocks in a row."""
    return nn.ModuleList(JointBlock(embed_dims, num_heads, mlp_ratio) for _ in range(depth))
