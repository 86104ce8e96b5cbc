"""Boxes as (x, y, z, r): the query geometry that the AdaMixer family shares.

``x, y`` is the box centre in pixels, ``z = log2(sqrt(w * h))`` its scale in octaves, ``r = log2(h / w)`` its aspect
ratio (AdaMixer, arXiv 2203.16507, section 3.1). Corner boxes are ``(x1, y1, x2, y2)`` in pixels. Nothing is clamped.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-7


def encode_xyzr(boxes: Tensor) -> Tensor:
    """Corner boxes ``[..., 4]`` to xyzr ``[..., 4]``; inverted boxes count with their absolute side lengths."""
    top_left, bottom_right = boxes.split(2, dim=-1)
    log_w, log_h = torch.log2((bottom_right - top_left).abs() + EPS).unbind(-1)
    scale_ratio = torch.stack([(log_w + log_h) / 2, log_h - log_w], dim=-1)
    return torch.cat([(top_left + bottom_right) / 2, scale_ratio], dim=-1)


def xyzr_sizes(position: Tensor) -> Tensor:
    """Width and height ``[..., 2]`` in pixels of xyzr boxes ``[..., 4]``."""
    scale, half_ratio = position[..., 2], position[..., 3] / 2
    return torch.stack([torch.exp2(scale - half_ratio), torch.exp2(scale + half_ratio)], dim=-1)


def decode_xyzr(position: Tensor) -> Tensor:
    """Xyzr ``[..., 4]`` to corner boxes ``[..., 4]``, not clipped to any image."""
    centre, half = position[..., :2], xyzr_sizes(position) / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def xyzr_embedding(position: Tensor, channels: int, temperature: float = 10000.0) -> Tensor:
    """Sinusoidal embedding of xyzr boxes (AdaMixer, section 3.3).

    Args:
        position: xyzr ``[..., 4]``; x and y are divided by 1000 first.
        channels: width of the result, a multiple of 8; each coordinate takes a quarter.
        temperature: base of the geometric series of wavelengths.

    Returns:
        ``[..., channels]``: the blocks of x, y, z and r in this order, sine and cosine alternating inside a block.
    """
    quarter = channels // 4
    exponent = torch.arange(0, quarter, 2, dtype=position.dtype, device=position.device) / quarter
    scaled = torch.cat([position[..., :2] / 1000, position[..., 2:]], dim=-1)
    angle = scaled[..., None] / temperature**exponent  # [..., 4, quarter / 2]
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-3)


def log_iof(boxes: Tensor) -> Tensor:
    """Logarithm of the pairwise intersection over foreground.

    Entry ``[..., i, j]`` is ``log(area(i and j) / area(i) + 1e-7)``: row i divides by its own area, so the matrix is
    not symmetric, and disjoint boxes get about -16.1 instead of minus infinity (AdaMixer, equation 5).

    Args:
        boxes: corner boxes ``[..., N, 4]``.

    Returns:
        ``[..., N, N]``.
    """
    top_left, bottom_right = boxes.split(2, dim=-1)
    area = (bottom_right - top_left).prod(-1)
    overlap_size = torch.minimum(bottom_right[..., :, None, :], bottom_right[..., None, :, :]) - torch.maximum(
        top_left[..., :, None, :], top_left[..., None, :, :]
    )
    overlap = overlap_size.clamp(min=0).prod(-1)
    return torch.log(overlap / area.clamp(min=1e-6)[..., None] + EPS)
