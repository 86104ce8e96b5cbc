"""Official LinK checkpoints, of either task: their key names and ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mvbench_plugins.common.checkpoint import Conversion

from .det_checkpoint import convert_detection, is_official_detection
from .seg_checkpoint import convert_segmentation


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> Conversion:
    """Weights under official names to ours; our own pass unchanged."""
    convert = convert_detection if is_official_detection(state_dict) else convert_segmentation
    return convert(state_dict)
