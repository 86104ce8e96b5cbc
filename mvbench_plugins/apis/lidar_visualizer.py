"""Pictures of LiDAR models without a display, for mmdet3d's inferencers and its visualization hook."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mmcv
import numpy as np
from mmdet3d.registry import VISUALIZERS
from mmdet3d.structures import Det3DDataSample, PointData
from mmdet3d.visualization import Det3DLocalVisualizer
from mmengine.dist import master_only
from mmengine.visualization.utils import tensor2ndarray
from torch import Tensor

from mvbench_plugins.apis.lidar_inferencers import let_inferencers_save_pictures
from mvbench_plugins.apis.lidar_pictures import draw_detections, draw_segmentation
from mvbench_plugins.apis.multiview_boxes import annotated_boxes, predicted_boxes

_AHEAD = {'x': math.pi / 2, 'y': 0.0}  # how far to turn the scene for what is ahead to lie along y
_FARTHEST = 1e4  # metres; boxes that reach farther are not drawn

let_inferencers_save_pictures()


@VISUALIZERS.register_module()
class LidarPictureVisualizer(Det3DLocalVisualizer):
    """``Det3DLocalVisualizer`` that draws point clouds into picture files by itself.

    The stock class does so through open3d, which needs a window. That way is left for ``show``.

    Args:
        name: of the instance.
        ahead: axis of the LiDAR that points ahead: ``y`` for nuScenes, ``x`` for KITTI.
        kwargs: those of :class:`~mmdet3d.visualization.Det3DLocalVisualizer`.

    Raises:
        ValueError: another axis.
    """

    def __init__(self, name: str = 'visualizer', ahead: str = 'x', **kwargs: object) -> None:
        if ahead not in _AHEAD:
            raise ValueError(f'ahead: found {ahead!r}, expected one of {", ".join(_AHEAD)}')
        super().__init__(name=name, **kwargs)
        self.turn = _AHEAD[ahead]
        self.picture_dir: Path | None = None

    @contextmanager
    def pictures_in(self, folder: Path | None) -> Iterator[None]:
        """Write pictures that are given no file of their own into a folder; None: hand them to the backends."""
        before, self.picture_dir = self.picture_dir, folder
        try:
            yield
        finally:
            self.picture_dir = before

    @master_only
    def add_datasample(
        self,
        name: str,
        data_input: dict,
        data_sample: Det3DDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        o3d_save_path: str | None = None,
        vis_task: str = 'lidar_det',
        pred_score_thr: float = 0.3,
        step: int = 0,
        **kwargs: object,
    ) -> None:
        """Draw a sample.

        Args:
            name: of the picture.
            data_input: with ``points`` ``[n, 3 or more]``.
            data_sample: annotations and predictions.
            draw_gt: draw annotations, if the sample has any.
            draw_pred: draw predictions.
            show: open the stock window, which needs open3d.
            wait_time: seconds that it stays.
            out_file: picture file.
            o3d_save_path: likewise, as the stock callers name it.
            vis_task: ``lidar_det`` or ``lidar_seg``; everything else is left to the stock class.
            pred_score_thr: boxes that score less are left out.
            step: number of the picture for the backends.
            kwargs: further arguments of the stock method.
        """
        if vis_task in ('lidar_det', 'lidar_seg'):
            points = tensor2ndarray(data_input['points'])[:, :3] @ self._rotation().T
            sample = Det3DDataSample() if data_sample is None else data_sample
            if vis_task == 'lidar_det':
                picture = self._detections(points, sample, draw_gt, draw_pred, pred_score_thr)
            else:
                picture = self._segmentation(points, sample, draw_gt, draw_pred)
            path = o3d_save_path or out_file or (self.picture_dir and self.picture_dir / name)
            if path:
                mmcv.imwrite(picture, str(path))
            else:
                self.add_image(name, mmcv.bgr2rgb(picture), step)
            if not show:
                return
            out_file = o3d_save_path = None
        super().add_datasample(
            name,
            data_input,
            data_sample,
            draw_gt=draw_gt,
            draw_pred=draw_pred,
            show=show,
            wait_time=wait_time,
            out_file=out_file,
            o3d_save_path=o3d_save_path,
            vis_task=vis_task,
            pred_score_thr=pred_score_thr,
            step=step,
            **kwargs,
        )

    def _rotation(self) -> np.ndarray:
        cos, sin = round(math.cos(self.turn)), round(math.sin(self.turn))
        return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)

    def _classes(self) -> tuple[str, ...]:
        classes = (self.dataset_meta or {}).get('classes')
        if classes is None:
            raise ValueError(
                'visualizer.dataset_meta: found no classes, expected their names by label; they come from the '
                'metainfo of the data set in the config, or from the checkpoint'
            )
        return tuple(classes)

    def _detections(
        self, points: np.ndarray, sample: Det3DDataSample, draw_gt: bool, draw_pred: bool, score_thr: float
    ) -> np.ndarray:
        layers = []
        if draw_gt and 'bboxes_3d' in sample.get('gt_instances_3d', ()):
            boxes = sample.gt_instances_3d.bboxes_3d.to('cpu').clone()
            boxes.rotate(self.turn)
            layers.append(annotated_boxes(boxes))
        if draw_pred and 'pred_instances_3d' in sample:
            instances = sample.pred_instances_3d.to('cpu').clone()
            instances.bboxes_3d = instances.bboxes_3d.clone()
            instances.bboxes_3d.rotate(self.turn)
            # Sizes are exponentials: those of an untrained model may be huge, infinite or no numbers.
            instances = instances[(instances.bboxes_3d.corners.abs() < _FARTHEST).all(2).all(1)]
            layers.append(predicted_boxes(instances, self._classes(), score_thr))
        return draw_detections(points, layers, self._classes())

    def _segmentation(self, points: np.ndarray, sample: Det3DDataSample, draw_gt: bool, draw_pred: bool) -> np.ndarray:
        masks = {
            'annotated': _mask(sample.get('gt_pts_seg')) if draw_gt else None,
            'predicted': _mask(sample.get('pred_pts_seg')) if draw_pred else None,
        }
        palette = self.dataset_meta.get('palette') if self.dataset_meta else None
        palette = None if isinstance(palette, str) else palette
        rows = [
            draw_segmentation(points, mask, self._classes(), palette, title)
            for title, mask in masks.items()
            if mask is not None
        ]
        if not rows:
            nothing = np.full(len(points), len(self._classes()))
            rows = [draw_segmentation(points, nothing, self._classes(), palette)]
        return np.vstack(rows)


def _mask(labels: PointData | None) -> np.ndarray | None:
    """Label of each point, if there are any."""
    mask: Tensor | np.ndarray | None = None if labels is None else labels.get('pts_semantic_mask')
    return None if mask is None else tensor2ndarray(mask).astype(np.int64)
