"""The stock nuScenes metric, for models that do not find anything yet as well."""

import logging
from typing import Any

from mmdet3d.evaluation.metrics import NuScenesMetric
from mmdet3d.registry import METRICS
from mmengine.logging import print_log
from nuscenes.eval.common import loaders
from nuscenes.eval.common.data_classes import EvalBoxes


@METRICS.register_module()
class NuScenesDetectionMetric(NuScenesMetric):
    """mmdet3d's ``NuScenesMetric``, which also rates results without a single box.

    A model that has hardly been trained scores nothing above its threshold. The devkit learns from the boxes whether
    they are detections or tracks, and ends with ``Invalid box type: None`` where there are none, and a training ends
    with it. Here such results are detections; the devkit's own rules then give precisions of 0 and errors of 1.

    Arguments, keys and values are those of the stock metric.
    """

    def _evaluate_single(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        stock = loaders._get_box_class_field

        def class_field(boxes: EvalBoxes) -> str:
            if boxes.all:
                return stock(boxes)
            print_log('nuScenes metric: no box in the results, or none in the truth', 'current', logging.WARNING)
            return 'detection_name'

        loaders._get_box_class_field = class_field
        try:
            return super()._evaluate_single(*args, **kwargs)
        finally:
            loaders._get_box_class_field = stock
