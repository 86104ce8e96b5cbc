"""Pictures of multi-camera detections in tests and validations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet3d.registry import HOOKS
from mmdet3d.structures import Det3DDataSample
from mmengine.dataset import BaseDataset
from mmengine.runner import Runner

from mvbench_plugins.apis.multiview_frames import nuscenes_frame
from mvbench_plugins.apis.multiview_picture import draw_frame
from mvbench_plugins.apis.picture_hook import PictureHook


@HOOKS.register_module()
class MultiViewVisualizationHook(PictureHook):
    """Draws the six views of key frames with projected boxes, and the scene from above.

    The stock hook draws all frames, and projects into pictures as they are on disk with the matrices of the resized
    and cropped ones. Options are the stock ones.

    Args:
        interval: in validations, draw every so many iterations.
        score_thr: boxes that score less are left out.
        draw_gt: draw annotated boxes, in white.
        view_width: width of a view in pixels.
        **options: of :class:`PictureHook`.
    """

    title = 'SparseBEV'

    def __init__(
        self,
        interval: int = 50,
        score_thr: float = 0.3,
        draw_gt: bool = True,
        view_width: int = 640,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.interval = interval
        self.score_thr = score_thr
        self.draw_gt = draw_gt
        self.view_width = view_width

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[Det3DDataSample]
    ) -> None:
        """Draws the first sample of every so many batches."""
        if self.draw and batch_idx % self.interval == 0:
            picture = self._picture(runner.val_dataloader.dataset, outputs[0])
            self._hand_out(runner, 'val', picture, runner.iter + batch_idx)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[Det3DDataSample]
    ) -> None:
        """Draws all samples."""
        for sample in outputs if self.draw else ():
            picture = self._picture(runner.test_dataloader.dataset, sample)
            file = f'{sample.sample_idx:06d}_{sample.token}.jpg'
            self._hand_out_test(runner, picture, file, sample.sample_idx)

    def _picture(self, dataset: BaseDataset, sample: Det3DDataSample) -> np.ndarray:
        frame = nuscenes_frame(dataset, sample.sample_idx)
        instances = sample.pred_instances_3d.to('cpu')
        return draw_frame(frame, instances, dataset.metainfo['classes'], self.score_thr, self.draw_gt, self.view_width)
