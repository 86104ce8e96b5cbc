"""Pictures of segmented objects in tests and validations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mvbench_plugins.apis.vos_drawing import draw_objects
from mvbench_plugins.common.palette_png import read_palette


@HOOKS.register_module()
class VOSVisualizationHook(Hook):
    """Draws the objects that a frame-by-frame segmenter found, with the palette of the annotation.

    The stock hook draws instances with boxes and scores, which index maps do not have, and nests the folders of a test
    in one another. Options are the stock ones, as far as they mean something here.

    Args:
        draw: whether to draw at all.
        frame_interval: in validations, draw every so many frames; tests draw all.
        show: open a window for each picture.
        wait_time: seconds that a window stays; 0: until a key is pressed.
        test_out_dir: folder below that of the run for the pictures of a test, by video; None: they go to the
            visualizer.
    """

    def __init__(
        self,
        draw: bool = False,
        frame_interval: int = 30,
        show: bool = False,
        wait_time: float = 0.0,
        test_out_dir: str | None = None,
    ) -> None:
        self.draw = draw
        self.frame_interval = frame_interval
        self.show = show
        self.wait_time = wait_time
        self.test_out_dir = test_out_dir

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
        if not self.draw:
            return
        sample = outputs[0][0]
        picture = self._picture(sample)
        if self.test_out_dir is None:
            self._hand_out(runner, 'test', picture, batch_idx)
            return
        folder = Path(runner.work_dir, runner.timestamp, self.test_out_dir, sample.video_name)
        mmcv.imwrite(picture, str(folder / f'{sample.frame_name}.jpg'))
        if self.show:
            self._show(picture)

    @staticmethod
    def _picture(sample: DetDataSample) -> np.ndarray:
        # Data sets read pixels as they are stored, too.
        frame = mmcv.imread(sample.img_path, flag='color_ignore_orientation')
        palette = read_palette(sample.palette_path)
        return draw_objects(frame, sample.pred_sem_seg.sem_seg[0].cpu().numpy(), palette)

    def _hand_out(self, runner: Runner, name: str, picture: np.ndarray, step: int) -> None:
        if self.show:
            self._show(picture)
        else:
            runner.visualizer.add_image(name, mmcv.bgr2rgb(picture), step)

    def _show(self, picture: np.ndarray) -> None:
        mmcv.imshow(picture, 'Objects', round(self.wait_time * 1000))
