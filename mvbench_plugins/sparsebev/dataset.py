"""nuScenes with the camera sets before and after each key frame."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.registry import DATASETS

from mvbench_plugins.common.naming import naming

from .frames import CAMERAS, CameraSet, Recordings, are_intrinsics, are_poses

#: The order of labels in released checkpoints; mmdet3d's own differs.
CLASSES = (
    'car',
    'truck',
    'construction_vehicle',
    'bus',
    'trailer',
    'barrier',
    'motorcycle',
    'bicycle',
    'pedestrian',
    'traffic_cone',
)
_TOOL = 'tools/create_nuscenes_sweeps.py'
_FIELDS = ('timestamp', 'cam2img', 'cam2global')


@DATASETS.register_module()
class MultiFrameNuScenesDataset(NuScenesDataset):
    """mmdet3d's data set on info files of ``tools/create_nuscenes_sweeps.py``, for cameras.

    Each item has, beside the stock keys, ``key_frame``, ``past`` (newest first) and ``future`` (oldest first) as
    :class:`CameraSet`, ``lidar2global`` ``[4, 4]``, ``key_interval`` and ``ori_shape``. Both lists end with the scene:
    they are empty for its first and its last sample. A part of the samples (``indices``, ``get_subset``) has the same
    lists as all of them. All entries are checked when the file is read.

    Args:
        metainfo: stock; the classes default to the order of released checkpoints, the version to that of the file.
        modality: stock.
        data_prefix: stock; of the files of key frames. Those of the frames between them are relative to ``data_root``.
        use_valid_flag: stock; train on boxes that LiDAR or radar touched.
        num_key_intervals: how many key frame intervals the lists reach; 10 as published. Tests with more than 10
            frames on a side need more: short lists repeat their end.
        kwargs: stock arguments.
    """

    def __init__(
        self,
        *args,
        metainfo: dict | None = None,
        modality: dict | None = None,
        data_prefix: dict | None = None,
        use_valid_flag: bool = True,
        num_key_intervals: int = 10,
        **kwargs,
    ) -> None:
        self.num_key_intervals = num_key_intervals
        super().__init__(
            *args,
            metainfo={'classes': CLASSES, **(metainfo or {})},
            modality=modality or dict(use_camera=True, use_lidar=False),
            data_prefix=data_prefix or {camera: f'samples/{camera}' for camera in CAMERAS},
            use_valid_flag=use_valid_flag,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Read and check the info file.

        Raises:
            ValueError: the file has no camera sets, its samples are not in order, or a time or a calibration is wrong.
        """
        with naming(self.ann_file, f'make the file with {_TOOL}'):
            data_list = super().load_data_list()
            self._check_order(data_list)
        missing = {'key_interval', 'image_size', 'version'} - set(self._metainfo)
        if missing:
            raise ValueError(f'{self.ann_file}: metainfo lacks {sorted(missing)}: make the file with {_TOOL}')
        size, interval = self._metainfo['image_size'], self._metainfo['key_interval']
        numbers = [interval, *size] if isinstance(size, (list, tuple)) else []
        if len(numbers) != 3 or not all(isinstance(number, int) and number >= 1 for number in numbers):
            raise ValueError(
                f'{self.ann_file}: metainfo: found image_size {size!r} and key_interval {interval!r}, expected height '
                f'and width and a number of steps of at least 1; make the file with {_TOOL}'
            )
        # Kept apart from the samples, of which some may be left out: those before and after them are still there.
        scenes = [info['scene_token'] for info in data_list]
        self._recordings = Recordings(scenes, [info.pop('camera_sets') for info in data_list])
        for position, info in enumerate(data_list):
            info['position'] = position
        return data_list

    def _check_order(self, data_list: list[dict]) -> None:
        """Refuse samples that are not in the order of scenes and time."""
        seen: set[str] = set()
        for i, info in enumerate(data_list):
            if i and info['scene_token'] == data_list[i - 1]['scene_token']:
                before = data_list[i - 1]['timestamp']
                if info['timestamp'] <= before:
                    raise ValueError(
                        f'{self._place(info)}: timestamp goes backwards: found {info["timestamp"]:.6f} s after '
                        f'{before:.6f} s in one scene, expected samples in the order of time; make the file with '
                        f'{_TOOL}'
                    )
            elif info['scene_token'] in seen:
                raise ValueError(
                    f'{self._place(info)}: scene {info["scene_token"]} goes on after another scene, expected all its '
                    f'samples in a row; make the file with {_TOOL}'
                )
            seen.add(info['scene_token'])

    @classmethod
    def _load_metainfo(cls, metainfo: Any = None) -> dict:
        loaded = super()._load_metainfo(metainfo)
        # Left to the file, unless the config says it: the stock metric opens the tables of this version.
        if 'version' not in (metainfo or {}):
            loaded.pop('version')
        return loaded

    def parse_data_info(self, info: dict) -> dict:
        """Turn an entry of the file into stock keys, camera sets and the pose of the LiDAR.

        Raises:
            ValueError: it has no camera sets, or they are wrong.
        """
        place = self._place(info)
        absent = [key for key in ('scene_token', 'camera_sweeps') if key not in info]
        if absent:
            raise ValueError(
                f'{place}: found no {" and no ".join(absent)}: this looks like an info file of mmdet3d itself; make '
                f'one with the frames between key frames with {_TOOL}'
            )
        info = super().parse_data_info(info)
        sources = [('images', '', info.pop('images'))]
        sources += [(f'camera_sweeps[{i}]', self.data_root, s) for i, s in enumerate(info.pop('camera_sweeps'))]
        sets = _camera_sets(sources, place)
        poses = np.array([info['ego2global'], info['lidar_points']['lidar2ego']], np.float64)
        _check_poses(poses, lambda i: f'{place}: {("ego2global", "lidar_points.lidar2ego")[i]}')
        info.update(camera_sets=sets, lidar2global=poses[0] @ poses[1])
        return info

    def get_data_info(self, idx: int) -> dict:
        """One entry with its lists of camera sets, see the class."""
        info = super().get_data_info(idx)
        key_interval = self._metainfo['key_interval']
        reach = self.num_key_intervals * key_interval
        key_frame, past, future = self._recordings.around(info.pop('position'), reach)
        info.update(key_frame=key_frame, past=past, future=future, key_interval=key_interval)
        info['ori_shape'] = tuple(self._metainfo['image_size'])
        return info

    def _place(self, info: dict) -> str:
        return f'{self.ann_file}: sample {info.get("token")}'


def _camera_sets(sources: list[tuple[str, str, dict[str, dict]]], place: str) -> list[CameraSet]:
    """Check and convert camera sets of one sample, newest first.

    Args:
        sources: of each set, its name in the file, the folder that its paths are relative to, and its entries
            ``{camera: entry}``.
        place: file and sample, for messages.

    Raises:
        ValueError: a camera or a field is missing, or a time or a calibration is wrong.
    """
    for name, _, images in sources:
        for camera in CAMERAS:
            absent = {'img_path', *_FIELDS} - set(images.get(camera, ()))
            if absent:
                raise ValueError(
                    f'{place}: {name}.{camera}: found no {", ".join(sorted(absent))}; make the file with {_TOOL}'
                )
    timestamps, cam2img, cam2global = (
        np.array([[images[camera][field] for camera in CAMERAS] for _, _, images in sources], np.float64)
        for field in _FIELDS
    )

    def entry(i: int, camera: int) -> str:
        return f'{place}: {sources[i][0]}.{CAMERAS[camera]}'

    _check_intrinsics(cam2img, entry)
    _check_poses(cam2global, lambda i, camera: f'{entry(i, camera)}.cam2global')
    later = np.argwhere(np.diff(timestamps, axis=0) > 0)
    if len(later):
        i, camera = later[0].tolist()
        raise ValueError(
            f'{entry(i + 1, camera)}: timestamp goes backwards: found {timestamps[i + 1, camera]:.6f} s, after '
            f'{timestamps[i, camera]:.6f} s of {sources[i][0]}; expected the newest set first; make the file with '
            f'{_TOOL}'
        )
    paths = [tuple(os.path.join(root, images[camera]['img_path']) for camera in CAMERAS) for _, root, images in sources]
    return [CameraSet(*parts) for parts in zip(paths, timestamps, cam2img, cam2global, strict=True)]


def _check_intrinsics(matrices: np.ndarray, entry: Callable[..., str]) -> None:
    """Refuse what are no camera matrices ``[..., 3, 3]``."""
    wrong = np.argwhere(~are_intrinsics(matrices))
    if len(wrong):
        first = tuple(wrong[0].tolist())
        raise ValueError(
            f'{entry(*first)}.cam2img: found {matrices[first].tolist()}, which is singular or no camera matrix; '
            'expected intrinsics [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, fx and fy above 0; correct '
            'calibrated_sensor.json'
        )


def _check_poses(poses: np.ndarray, entry: Callable[..., str]) -> None:
    """Refuse what are no rigid poses ``[..., 4, 4]``."""
    wrong = np.argwhere(~are_poses(poses))
    if len(wrong):
        first = tuple(wrong[0].tolist())
        raise ValueError(
            f'{entry(*first)}: found {poses[first].tolist()}, which is singular, a reflection or no pose; expected '
            '[[R, t], [0, 0, 0, 1]] with a rotation R; correct ego_pose.json and calibrated_sensor.json'
        )
