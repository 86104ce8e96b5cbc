"""What the hooks have in common that draw pictures in tests and validations."""

from __future__ import annotations

from pathlib import Path

import mmcv
import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner


class PictureHook(Hook):
    """Shows pictures or hands them out, as the stock visualization hooks do.

    Args:
        draw: whether to draw at all.
        show: open a window for each picture.
        wait_time: seconds that a window stays; 0: until a key is pressed.
        test_out_dir: folder below that of the run for the pictures of a test; None: they go to the visualizer.
    """

    #: Title of the window.
    title: str

    def __init__(
        self, draw: bool = False, show: bool = False, wait_time: float = 0.0, test_out_dir: str | None = None
    ) -> None:
        self.draw = draw
        self.show = show
        self.wait_time = wait_time
        self.test_out_dir = test_out_dir

    def _hand_out_test(self, runner: Runner, picture: np.ndarray, file: str, step: int) -> None:
        """To ``file`` below ``test_out_dir``, if there is one."""
        if self.test_out_dir is None:
            self._hand_out(runner, 'test', picture, step)
            return
        mmcv.imwrite(picture, str(Path(runner.work_dir, runner.timestamp, self.test_out_dir, file)))
        if self.show:
            self._show(picture)

    def _hand_out(self, runner: Runner, name: str, picture: np.ndarray, step: int) -> None:
        if self.show:
            self._show(picture)
        else:
            runner.visualizer.add_image(name, mmcv.bgr2rgb(picture), step)

    def _show(self, picture: np.ndarray) -> None:
        mmcv.imshow(picture, self.title, round(self.wait_time * 1000))
