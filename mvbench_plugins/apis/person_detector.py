"""People in images, with any detector of mmdet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

from mvbench_plugins.version_check import check_toolbox


class PersonDetector:
    """Finds the people in an image; mmdet is imported when a detector is made, and only then.

    Args:
        config: config file of an mmdet detector.
        checkpoint: its weights, a file or URL.
        device: such as ``'cuda:0'``; default: an accelerator if there is one.
        label: which of the detector's classes (0-based) are people; default: the one called ``'person'``.

    Raises:
        ImportError: mmdet is not installed.
        FileNotFoundError, ValueError: a file is missing, the checkpoint belongs to another detector, or it has no such
            class.
    """

    def __init__(
        self, config: str | Path, checkpoint: str | Path, device: str | None = None, label: int | None = None
    ) -> None:
        check_toolbox('mmdet')
        from mmdet.apis import init_detector
        from mmdet.utils import get_test_pipeline_cfg
        from mmengine.device import get_device

        for path in (config, checkpoint):
            if '://' not in str(path) and not Path(path).is_file():
                raise FileNotFoundError(f'person detector: {path} does not exist (current folder: {Path.cwd()})')
        # Names of transforms mean mmdet's only within its scope; the caller's must stand again afterwards.
        with DefaultScope.overwrite_default_scope('mmdet'):
            # A palette is given because mmdet would open the dataset of the config to look for one.
            self._model = init_detector(str(config), str(checkpoint), 'coco', device or get_device())
            steps = get_test_pipeline_cfg(self._model.cfg.copy())
            steps[0].type = 'mmdet.LoadImageFromNDArray'
            self._pipeline = Compose(steps)
        self._check_weights(checkpoint)
        classes = self._model.dataset_meta['classes']
        if label is None and 'person' not in classes:
            raise ValueError(
                f"person detector {config}: none of its classes is called 'person': {', '.join(classes)}; say which "
                'are people (label, or --det-label), counted from 0'
            )
        label = list(classes).index('person') if label is None else label
        if not 0 <= label < len(classes):
            raise ValueError(f'person detector {config}: label {label} is none of its {len(classes)} classes')
        self._label = label

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Detects in one image.

        Args:
            image: uint8 ``[h, w, 3]`` in BGR order.

        Returns:
            float32 ``[n, 5]``: x1, y1, x2, y2 in pixels, score.
        """
        from mmdet.apis import inference_detector

        found = inference_detector(self._model, np.ascontiguousarray(image), self._pipeline).pred_instances
        people = found.labels == self._label
        boxes, scores = (values[people].float().cpu().numpy() for values in (found.bboxes, found.scores))
        return np.column_stack([boxes, scores])

    def _check_weights(self, checkpoint: str | Path) -> None:
        """Refuses what mmdet only logs, a checkpoint that lacks weights: random parts would give silent nonsense."""
        content = CheckpointLoader.load_checkpoint(str(checkpoint), 'cpu')
        weights = content.get('state_dict', content)
        shapes = {name.removeprefix('module.'): weight.shape for name, weight in weights.items()}
        missing = [name for name, weight in self._model.state_dict().items() if shapes.get(name) != weight.shape]
        if missing:
            raise ValueError(
                f'person detector: checkpoint {checkpoint} lacks {len(missing)} weights of the model, such as '
                f'{missing[0]}, or has them in another shape: give the config that belongs to it'
            )
