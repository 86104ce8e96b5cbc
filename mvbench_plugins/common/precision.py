"""Where half precision would not do."""

from __future__ import annotations

from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to single; boxes, places and what is sampled there need that much."""
    return x.float() if x.dtype.itemsize < 4 else x
