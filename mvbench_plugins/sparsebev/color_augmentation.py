"""Colour augmentation of image batches on their device."""

from __future__ import annotations

import torch
from torch import Tensor

_BRIGHTNESS = 32.0  # of 255
_CONTRAST = _SATURATION = (0.5, 1.5)
_HUE = 18.0  # degrees


def augment_colors(images: Tensor) -> Tensor:
    """Photometric distortion, drawn for each image from the generator of the images' device; never clipped.

    In this order, each with probability 1/2: brightness, contrast (here in half of the images, in the others after the
    hue), saturation, hue, an exchange of channels.

    Args:
        images: BGR on 0 to 255, float ``[N, 3, H, W]``.

    Returns:
        The same shape and dtype.
    """
    late = _coin(images)
    images = images.flip(1)
    images = images + torch.where(_coin(images), _uniform(images, -_BRIGHTNESS, _BRIGHTNESS), 0)
    contrast = torch.where(_coin(images), _uniform(images, *_CONTRAST), 1)
    images = images * torch.where(late, 1, contrast)
    hue, saturation, value = rgb_to_hsv(images)
    saturation = saturation * torch.where(_coin(images), _uniform(images, *_SATURATION), 1)[:, 0]
    hue = hue + torch.where(_coin(images), _uniform(images, -_HUE, _HUE), 0)[:, 0]
    hue = torch.where(hue > 360, hue - 360, hue)
    hue = torch.where(hue < 0, hue + 360, hue)
    images = hsv_to_rgb(hue, saturation, value)
    images = images * torch.where(late, contrast, 1)
    shuffled = torch.rand(len(images), 3, device=images.device).argsort(1)
    order = torch.where(_coin(images)[:, 0, 0], shuffled, torch.arange(3, device=images.device))
    return images.gather(1, order[:, :, None, None].expand_as(images)).flip(1)


def rgb_to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in degrees, saturation on 0 to 1 and value in the unit of the images ``[N, 3, H, W]``, each ``[N, H, W]``."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    delta = value - images.amin(1)
    safe = delta + 1e-8
    hue = torch.where(value == blue, 4 + (red - green) / safe, 0)
    hue = torch.where(value == green, 2 + (blue - red) / safe, hue)
    hue = torch.where(value == red, ((green - blue) / safe) % 6, hue)
    return 60 * torch.where(delta == 0, 0, hue), delta / (value + 1e-8), value


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """The inverse of :func:`rgb_to_hsv`."""
    channels = []
    for shift in (5, 3, 1):
        sector = (hue / 60 + shift) % 6
        channels.append(value - value * saturation * torch.minimum(sector, 4 - sector).clamp(0, 1))
    return torch.stack(channels, 1)


def _coin(images: Tensor) -> Tensor:
    """A toss for each image ``[N, 1, 1, 1]``."""
    return torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """A number for each image ``[N, 1, 1, 1]``."""
    return torch.rand(len(images), 1, 1, 1, device=images.device) * (high - low) + low
