"""Pictures of segmented objects in tests and validations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.runner import Runner

from mvbench_plugins.apis.picture_hook import PictureHook
from mvbench_plugins.apis.vos_drawing import draw_objects
from mvbench_plugins.common.palette_png import read_palette


@HOOKS.register_module()
class VOSVisualizationHook(PictureHook):
    """Draws the objects that a frame-by-frame segmenter found, with the palette of the annotation.

    The stock hook draws instances with boxes and scores, which index maps do not have, and nests the folders of a test
    in one another. Options are the stock ones, as far as they mean something here.

    Args:
        frame_interval: in validations, draw every so many frames; tests draw all.
        **options: of :class:`PictureHook`; below ``test_out_dir`` each video has a folder of its own.
    """

    title = 'Objects'

    def __init__(self, frame_interval: int = 30, **options: Any) -> None:
        super().__init__(**options)
        self.frame_interval = frame_interval

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[TrackDataSample]
    ) -> None:
        """Draws every so many frames."""
        if self.draw and self.every_n_inner_iters(batch_idx, self.frame_interval):
            self._hand_out(runner, 'val', self._picture(outputs[0][0]), runner.iter + batch_idx)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[TrackDataSample]
    ) -> None:
        """Draws all frames."""
        if self.draw:
            sample = outputs[0][0]
            file = f'{sample.video_name}/{sample.frame_name}.jpg'
            self._hand_out_test(runner, self._picture(sample), file, batch_idx)

    @staticmethod
    def _picture(sample: DetDataSample) -> np.ndarray:
        # Data sets read pixels as they are stored, too.
        frame = mmcv.imread(sample.img_path, flag='color_ignore_orientation')
        palette = read_palette(sample.palette_path)
        return draw_objects(frame, sample.pred_sem_seg.sem_seg[0].cpu().numpy(), palette)
