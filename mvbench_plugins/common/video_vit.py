"""The plain video ViT of VideoMAE, which several action detectors stand on, and the names of its official weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmaction.models.backbones import VisionTransformer
from mmaction.models.backbones.vit_mae import Attention
from mmaction.registry import MODELS
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .checkpoint import Rule

#: Official files of VideoMAE and VideoMAEv2, pretrained or fine-tuned for classification, to the names used here.
#: A file that was fine-tuned with mean pooling has ``fc_norm`` in place of ``norm``: ``norm`` then starts at 1 and 0.
VIDEOMAE_RULES: tuple[Rule, ...] = (
    Rule(r'(encoder\.|backbone\.)?(head|fc_norm|decoder|encoder_to_decoder)\..*', None),
    Rule(r'(encoder\.|backbone\.)?(mask_token|pos_embed)', None),
    Rule(r'(?:encoder\.|backbone\.)?patch_embed\.proj\.(.*)', r'patch_embed.projection.\1'),
    Rule(r'(?:encoder\.|backbone\.)?(blocks\.\d+\.mlp)\.fc1\.(.*)', r'\1.layers.0.0.\2'),
    Rule(r'(?:encoder\.|backbone\.)?(blocks\.\d+\.mlp)\.fc2\.(.*)', r'\1.layers.1.\2'),
    Rule(r'(?:encoder\.|backbone\.)?((?:blocks|norm)\..*)', r'\1'),
)


class FusedAttention(Attention):
    """mmaction's attention through ``scaled_dot_product_attention``: no ``[tokens, tokens]`` matrix is kept."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend among tokens ``[B, N, C]``."""
        bias = None
        if hasattr(self, 'q_bias'):
            bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])  # keys have none
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # [B, heads, N, C / heads] each
        dropout = self.attn_drop.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=self.scale)
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))


@MODELS.register_module()
class VideoVisionTransformer(VisionTransformer):
    """mmaction's ``VisionTransformer`` as a dense feature extractor; same numbers, less memory.

    Differs from the stock class: attention is fused, blocks can be recomputed in the backward pass, and the sine
    position table is no entry of the state dict, as in official files.

    Args:
        with_cp: recompute the blocks in the backward pass instead of keeping their activations.
        kwargs: arguments of the stock class.
    """

    def __init__(self, with_cp: bool = False, **kwargs) -> None:
        super().__init__(use_mean_pooling=False, return_feat_map=True, **kwargs)
        self.with_cp = with_cp
        pos_embed = self.pos_embed
        del self.pos_embed
        self.register_buffer('pos_embed', pos_embed, persistent=False)
        for block in self.blocks:
            stock = block.attn
            block.attn = FusedAttention(
                self.embed_dims,
                stock.num_heads,
                qkv_bias=hasattr(stock, 'q_bias'),
                qk_scale=stock.scale,
                attn_drop_rate=stock.attn_drop.p,
                drop_rate=stock.proj_drop.p,
            )

    def forward(self, x: Tensor) -> Tensor:
        """Normalised tokens as a map.

        Args:
            x: clips ``[B, 3, T, H, W]``; T divides by the tubelet size, H and W by the patch size.

        Returns:
            ``[B, embed_dims, T / tubelet, H / patch, W / patch]``.

        Raises:
            ValueError: the number of frames is not the one that the position table was made for.
        """
        size = (x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size)
        tokens = self.patch_embed(x)[0]
        tokens = self.pos_drop(tokens + self._positions(tokens.shape[1], size))
        for block in self.blocks:
            if self.with_cp and tokens.requires_grad:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return self.norm(tokens).unflatten(1, (-1, *size)).permute(0, 4, 1, 2, 3)

    def _positions(self, num_tokens: int, size: tuple[int, int]) -> Tensor:
        """The position table ``[1, tokens, C]``, resized in space if the number of tokens asks for it."""
        if num_tokens == self.pos_embed.shape[1]:
            return self.pos_embed
        table = self.pos_embed.unflatten(1, (-1, *self.grid_size))[0]  # [T, h, w, C]
        if num_tokens != len(table) * size[0] * size[1]:
            raise ValueError(
                f'the clip gives {num_tokens} tokens on a map of {size[0]}x{size[1]}, the position table has '
                f'{len(table)} slices in time: set num_frames of the backbone to clip_len of the pipeline'
            )
        resized = F.interpolate(table.permute(0, 3, 1, 2), size=size, mode='bicubic', align_corners=False)
        return resized.permute(0, 2, 3, 1).flatten(0, 2)[None]
