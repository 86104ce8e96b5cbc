"""SparseBEV: predictions of models with older boxes, as they were recorded.

Such a model runs here with weights that were turned to today's boxes, so that what it predicts is to be turned back.
"""

from __future__ import annotations

from torch import Tensor

from mvbench_plugins.sparsebev.checkpoint import convert_version

_BOXES = 'pts_bbox_head.init_query_bbox.weight'  # any entry that holds query boxes
# Columns of target boxes in the order of query boxes, and the other way round.
_QUERY_ORDER = (0, 1, 4, 2, 3, 5, 6, 7, 8, 9)
_TARGET_ORDER = (0, 1, 3, 4, 2, 5, 6, 7, 8, 9)


def query_boxes_as_recorded(boxes: Tensor, version: str | None) -> Tensor:
    """Query boxes ``[..., 10]`` in the version's convention."""
    # Turning a box exchanges log dx with log dy and sin with -cos: twice is not at all.
    return convert_version({_BOXES: boxes.flatten(0, -2)}, version)[_BOXES].view_as(boxes)


def target_boxes_as_recorded(boxes: Tensor, version: str | None) -> Tensor:
    """Target boxes ``[..., 10]`` in the version's convention."""
    return query_boxes_as_recorded(boxes[..., _QUERY_ORDER], version)[..., _TARGET_ORDER]
