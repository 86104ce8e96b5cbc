"""What LinK's detectors do with point clouds and boxes otherwise than the stock transforms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet3d.datasets.transforms import LoadPointsFromMultiSweeps, ObjectRangeFilter, ObjectSample
from mmdet3d.registry import TRANSFORMS
from mmdet3d.structures.points import BasePoints

from .point_checks import check_point_size

_BYTES = 4  # of a float32


@TRANSFORMS.register_module()
class CheckPointFile(BaseTransform):
    """Refuses points with another number of values each, before they are loaded.

    Args:
        load_dim: values of a point in the file, as for ``LoadPointsFromFile``.
    """

    def __init__(self, load_dim: int) -> None:
        self.load_dim = load_dim

    def transform(self, results: dict) -> dict:
        """Passes ``results`` unchanged.

        Args:
            results: with ``lidar_points.lidar_path``, or with ``points`` as an inferencer is given them: a path or an
                array.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: its size is no multiple of a point's, its values are those of points of another size, or an
                array is not ``[N, load_dim]``.
        """
        source = results.get('lidar_points', {}).get('lidar_path', results.get('points'))
        if isinstance(source, np.ndarray):
            if source.ndim != 2 or source.shape[1] != self.load_dim:
                raise ValueError(
                    f'points: found an array of shape {list(source.shape)}, expected [N, {self.load_dim}], as in a '
                    'file; give all of these values, or set load_dim and use_dim'
                )
        elif isinstance(source, (str, Path)) and '://' not in str(source):
            self._check_file(Path(source))
        return results

    def _check_file(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f'points {path}: no such file (current folder: {Path.cwd()})')
        size, expected = path.stat().st_size, self.load_dim * _BYTES
        if size % expected:
            raise ValueError(
                f'points {path}: found {size} bytes, expected a multiple of {expected} ({self.load_dim} float32 for a '
                'point); the file is cut off or of another data set: set load_dim to its values per point'
            )
        check_point_size(np.fromfile(path, np.float32), self.load_dim, str(path))


@TRANSFORMS.register_module()
class LoadNearestSweeps(LoadPointsFromMultiSweeps):
    """``LoadPointsFromMultiSweeps`` that always adds the same number of sweeps.

    These are the ``sweeps_num`` nearest ones, in random order unless ``test_mode``: the order decides which points fill
    a crowded voxel. Where there are fewer, the last one repeats; where there are none, the key frame (with
    ``pad_empty_sweeps``). Arguments are those of the stock transform.
    """

    def transform(self, results: dict) -> dict:
        """Add the points of the sweeps, with their time lags in seconds.

        Args:
            results: with ``points``, ``timestamp`` and, if there are any, ``lidar_sweeps``, the nearest first.
        """
        nearest = list(results.get('lidar_sweeps', ()))[: self.sweeps_num]
        inputs = {key: value for key, value in results.items() if key != 'lidar_sweeps'}
        if nearest:
            nearest += nearest[-1:] * (self.sweeps_num - len(nearest))
            order = range(len(nearest)) if self.test_mode else np.random.permutation(len(nearest))
            inputs['lidar_sweeps'] = [nearest[i] for i in order]
        results['points'] = super().transform(inputs)['points']
        return results


@TRANSFORMS.register_module()
class ObjectSampleIntoScene(ObjectSample):
    """``ObjectSample`` that leaves the points of the scene inside of pasted boxes where they are."""

    @staticmethod
    def remove_points_in_boxes(points: BasePoints, boxes: np.ndarray) -> BasePoints:
        """All points."""
        return points


@TRANSFORMS.register_module()
class ObjectCornerRangeFilter(ObjectRangeFilter):
    """``ObjectRangeFilter`` that keeps boxes with any corner in the range of the bird's-eye view."""

    def transform(self, input_dict: dict) -> dict:
        """Drop boxes and labels, and bring yaws into [-pi, pi).

        Args:
            input_dict: with ``gt_bboxes_3d`` and ``gt_labels_3d``.
        """
        boxes = input_dict['gt_bboxes_3d']
        corners = boxes.corners[..., :2].numpy()  # [n, 8, 2]
        inside = ((corners > self.pcd_range[:2]) & (corners < self.pcd_range[3:5])).all(-1).any(-1)
        boxes = boxes[inside]
        boxes.limit_yaw(offset=0.5, period=2 * math.pi)
        input_dict['gt_bboxes_3d'] = boxes
        input_dict['gt_labels_3d'] = input_dict['gt_labels_3d'][inside]
        return input_dict
