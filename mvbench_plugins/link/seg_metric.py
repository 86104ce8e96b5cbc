"""Segmentation metric for networks that may answer "unlabelled"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmdet3d.evaluation.metrics import SegMetric
from mmdet3d.registry import METRICS


@METRICS.register_module()
class UnlabelledSegMetric(SegMetric):
    """The stock metric with a column for the answer "unlabelled", which is wrong for every labelled point.

    The stock metric would count that answer for the first class of the next row. Besides its values there is
    ``miou_official``: a class without any ground truth counts as 1, as in the published evaluation, instead of being
    left out.
    """

    dataset_meta: dict

    def compute_metrics(self, results: Sequence[tuple[dict, dict]]) -> dict[str, float] | None:
        """Metrics of all samples, see :class:`~mmdet3d.evaluation.metrics.SegMetric`."""
        meta = self.dataset_meta
        ignored, classes = meta['ignore_index'], meta['label2cat']
        self.dataset_meta = {**meta, 'label2cat': {**classes, ignored: 'unlabelled'}}
        try:
            with np.errstate(invalid='ignore'):  # 0 / 0 for a class without points, which is left out of the mean
                values = super().compute_metrics(results)
        finally:
            self.dataset_meta = meta
        if values is None:  # a submission was written instead
            return None
        del values['unlabelled']
        present = np.unique(np.concatenate([truth['pts_semantic_mask'] for truth, _ in results]))
        values['miou_official'] = float(
            np.mean([values[name] if label in present else 1.0 for label, name in classes.items()])
        )
        return values
