"""Where objects meet: their masks beside each other as probabilities, and what each sees of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from mvbench_plugins.common.precision import at_least_float32

#: Probabilities keep this distance from 0 and 1, so that their log-odds are finite.
_MARGIN = 1e-7


def soft_aggregate(prob: Tensor, selector: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Probabilities of objects by themselves to those of the background and all objects, which sum to 1.

    The background has the probability that no object is there; a softmax over the log-odds of all of them decides.

    Args:
        prob: of each object by itself, ``[..., n, H, W]``.
        selector: ``[..., n]``: 1 for an object, 0 for an empty slot, which becomes as good as impossible; default: all
            are objects.

    Returns:
        Log-odds and probabilities ``[..., 1 + n, H, W]``, background first, in at least single precision: the distance
        of 1e-7 from 1 does not exist in half.
    """
    prob = at_least_float32(prob)
    if selector is not None:
        prob = prob * selector[..., None, None]
    background = (1 - prob).prod(dim=-3, keepdim=True)
    prob = torch.cat([background, prob], dim=-3).clamp(_MARGIN, 1 - _MARGIN)
    logits = (prob / (1 - prob)).log()
    return logits, logits.softmax(dim=-3)


def memory_frames(image: Tensor, masks: Tensor, mask_channels: int = 2) -> Tensor:
    """What the backbone memorises of an image, object by object.

    Args:
        image: normalised, ``[..., 3, H, W]``.
        masks: of the objects without the background, probabilities or 0 and 1, ``[..., n, H, W]``.
        mask_channels: 2: the object's own mask and the sum of the others'; 1: its own only.

    Returns:
        ``[..., n, 3 + mask_channels, H, W]``.
    """
    own = masks.unsqueeze(-3)
    parts = [image.unsqueeze(-4).expand(*own.shape[:-3], *image.shape[-3:]), own]
    if mask_channels == 2:
        parts.append(own.sum(dim=-4, keepdim=True) - own)
    return torch.cat(parts, dim=-3)
