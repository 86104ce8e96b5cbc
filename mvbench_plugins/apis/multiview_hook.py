"""Pictures of multi-camera detections in tests and validations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
from mmdet3d.registry import HOOKS
from mmdet3d.structures import Det3DDataSample
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mvbench_plugins.apis.multiview_frames import nuscenes_frame
from mvbench_plugins.apis.multiview_picture import draw_frame


@HOOKS.register_module()
class MultiViewVisualizationHook(Hook):
    """Draws the six views of key frames with projected boxes, and the scene from above.

    The stock hook draws all frames, and projects into pictures as they are on disk with the matrices of the resized
    and cropped ones. Options are the stock ones.

    Args:
        draw: whether to draw at all.
        interval: in validations, draw every so many iterations.
        score_thr: boxes that score less are left out.
        show: open a window for each picture.
        wait_time: seconds that a window stays; 0: until a key is pressed.
        draw_gt: draw annotated boxes, in white.
        test_out_dir: folder below that of the run for the pictures of a test; None: they go to the visualizer.
        view_width: width of a view in pixels.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        score_thr: float = 0.3,
        show: bool = False,
        wait_time: float = 0.0,
        draw_gt: bool = True,
        test_out_dir: str | None = None,
        view_width: int = 640,
    ) -> None:
        self.draw = draw
        self.interval = interval
        self.score_thr = score_thr
        self.show = show
        self.wait_time = wait_time
        self.draw_gt = draw_gt
        self.test_out_dir = test_out_dir
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
            if self.test_out_dir is None:
                self._hand_out(runner, 'test', picture, sample.sample_idx)
                continue
            folder = Path(runner.work_dir, runner.timestamp, self.test_out_dir)
            mmcv.imwrite(picture, str(folder / f'{sample.sample_idx:06d}_{sample.token}.jpg'))
            if self.show:
                self._show(picture)

    def _picture(self, dataset: BaseDataset, sample: Det3DDataSample) -> np.ndarray:
        frame = nuscenes_frame(dataset, sample.sample_idx)
        instances = sample.pred_instances_3d.to('cpu')
        return draw_frame(frame, instances, dataset.metainfo['classes'], self.score_thr, self.draw_gt, self.view_width)

    def _hand_out(self, runner: Runner, name: str, picture: np.ndarray, step: int) -> None:
        if self.show:
            self._show(picture)
        else:
            runner.visualizer.add_image(name, mmcv.bgr2rgb(picture), step)

    def _show(self, picture: np.ndarray) -> None:
        mmcv.imshow(picture, 'SparseBEV', round(self.wait_time * 1000))
