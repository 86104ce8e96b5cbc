"""Images to whole patches: zeros on all sides, half of them before and half behind."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from .backbone import STRIDE


class Padding(NamedTuple):
    """Pixels added on each side, in the order of :func:`torch.nn.functional.pad`."""

    left: int
    right: int
    top: int
    bottom: int

    @classmethod
    def to_stride(cls, height: int, width: int) -> Padding:
        """What takes an image of this size to multiples of the stride; an odd pixel goes right or below."""
        across, down = -width % STRIDE, -height % STRIDE
        return cls(across // 2, across - across // 2, down // 2, down - down // 2)

    def add(self, maps: Tensor) -> Tensor:
        """Zeros around maps ``[..., H, W]``."""
        return F.pad(maps, self) if any(self) else maps

    def remove(self, maps: Tensor) -> Tensor:
        """Maps ``[..., H, W]`` without what :meth:`add` added."""
        height, width = maps.shape[-2:]
        return maps[..., self.top : height - self.bottom, self.left : width - self.right]
