"""Frames of surround cameras to detect in: samples of nuScenes, or folders with calibration files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.structures import Box3DMode, LiDARInstance3DBoxes
from mmengine.dataset import BaseDataset

from mvbench_plugins.apis.multiview_calibration import CALIBRATION, CalibratedFrame, read_calibrated_frame
from mvbench_plugins.common.naming import naming
from mvbench_plugins.common.natural_order import natural_key
from mvbench_plugins.sparsebev.frames import CameraSet

_KEY_SECONDS = 0.5  # from key frame to key frame of nuScenes, which models are tested at
_LIDAR_FOLDER = 'samples/LIDAR_TOP'
_LIDAR_VALUES = 5  # of a point: x, y, z, intensity, ring


@dataclass(frozen=True, eq=False)
class MultiViewFrame:
    """One moment.

    Attributes:
        name: token of the sample, or name of the folder.
        results: what the test pipeline starts from.
        gt_bboxes_3d: annotated boxes, None where there are no annotations.
        gt_labels_3d: their classes ``[n]``.
        lidar_path: file with a LiDAR sweep, to be drawn; None if there is none.
    """

    name: str
    results: dict[str, Any]
    gt_bboxes_3d: LiDARInstance3DBoxes | None = None
    gt_labels_3d: np.ndarray | None = None
    lidar_path: Path | None = None

    @property
    def cameras(self) -> CameraSet:
        """The cameras at this moment."""
        return self.results['key_frame']

    @property
    def lidar2img(self) -> np.ndarray:
        """Projections into the pictures as they are on disk, ``[6, 4, 4]``."""
        return self.cameras.lidar2img(self.results['lidar2global'])

    @property
    def timestamp(self) -> float:
        """Seconds: the mean of the cameras."""
        return float(self.cameras.timestamps.mean())

    def lidar_points(self) -> np.ndarray | None:
        """Positions ``[n, 3]`` in metres, None if there is no sweep."""
        if self.lidar_path is None:
            return None
        return np.fromfile(self.lidar_path, np.float32).reshape(-1, _LIDAR_VALUES)[:, :3]


def nuscenes_frame(dataset: BaseDataset, index: int) -> MultiViewFrame:
    """A sample of a nuScenes data set, with its annotations if the data set is in test mode.

    Args:
        dataset: such as :class:`~mvbench_plugins.sparsebev.dataset.MultiFrameNuScenesDataset`.
        index: place of the sample in it.
    """
    info = dataset.get_data_info(index)
    info.update(box_type_3d=dataset.box_type_3d, box_mode_3d=dataset.box_mode_3d)
    boxes, labels = None, None
    if 'eval_ann_info' in info:
        found = info.pop('eval_ann_info')
        known = found['gt_labels_3d'] >= 0
        boxes, labels = found['gt_bboxes_3d'][known], found['gt_labels_3d'][known]
    lidar = Path(dataset.data_root, _LIDAR_FOLDER, Path(info['lidar_points'].get('lidar_path', '')).name)
    return MultiViewFrame(info['token'], info, boxes, labels, lidar if lidar.is_file() else None)


class Frames(ABC):
    """Frames in their order, each made when it is asked for.

    Attributes:
        annotated: whether they come with annotated boxes.
        sequential: whether all frames before a frame in its scene or drive come before it here, too.
    """

    annotated: bool
    sequential: bool

    @property
    @abstractmethod
    def rate(self) -> float:
        """Frames per second."""

    @property
    @abstractmethod
    def key_interval(self) -> int:
        """Steps from a frame to that half a second later."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, number: int) -> MultiViewFrame: ...

    def __iter__(self) -> Iterator[MultiViewFrame]:
        return (self[number] for number in range(len(self)))


class NuScenesFrames(Frames):
    """Samples of a nuScenes data set.

    Args:
        dataset: such as :class:`~mvbench_plugins.sparsebev.dataset.MultiFrameNuScenesDataset`, in test mode.
        names: sample tokens, names or tokens of scenes.

    Raises:
        ValueError: a name is none of the data set.
    """

    annotated = True

    def __init__(self, dataset: BaseDataset, names: Sequence[str]) -> None:
        self.dataset = dataset
        dataset.full_init()
        # Not the data set's own method, which also collects the camera sets around each sample.
        infos = [BaseDataset.get_data_info(dataset, index) for index in range(len(dataset))]
        samples = {info['token']: index for index, info in enumerate(infos)}
        scenes: dict[str, list[int]] = {}
        for index, info in enumerate(infos):
            scenes.setdefault(info['scene_token'], []).append(index)
        scene_names = self._scene_names()
        self._indices: list[int] = []
        self.sequential = True
        for name in names:
            scene = scenes.get(scene_names.get(name, name))
            if scene is None and name not in samples:
                known = [title for title, token in scene_names.items() if token in scenes] or list(scenes)
                raise ValueError(
                    f'{name!r} is neither a folder nor a sample token or a scene of {dataset.ann_file} '
                    f'({len(samples)} samples). Scenes: {", ".join(known[:5])}{" ..." if len(known) > 5 else ""}'
                )
            self._indices += [samples[name]] if scene is None else scene
            self.sequential &= scene is not None

    @property
    def rate(self) -> float:
        """Frames per second."""
        return 1 / _KEY_SECONDS

    @property
    def key_interval(self) -> int:
        """Steps from a frame to that half a second later."""
        return 1

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, number: int) -> MultiViewFrame:
        return nuscenes_frame(self.dataset, self._indices[number])

    def _scene_names(self) -> dict[str, str]:
        """Tokens of scenes by name, from the table, which data sets without tables lack."""
        table = Path(self.dataset.data_root, self.dataset.metainfo.get('version', ''), 'scene.json')
        if not table.is_file():
            return {}
        with naming(table, 'download the table again'):
            return {scene['name']: scene['token'] for scene in json.loads(table.read_text(encoding='utf-8'))}


class FolderFrames(Frames):
    """Frames from folders with calibration files, see :mod:`~mvbench_plugins.apis.multiview_calibration`.

    Args:
        folder: with a calibration file of its own, one frame; otherwise a drive, whose sub-folders are its frames, in
            the order of their names (numbers count as numbers).
        history: folders of earlier frames, for a single frame; default: its sub-folders with a calibration file.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a calibration is wrong, or frames do not fit together.
    """

    annotated = False

    def __init__(self, folder: Path, history: Sequence[Path] | None = None) -> None:
        single = (folder / CALIBRATION).is_file()
        if not single and history is not None:
            raise ValueError(f'history: {folder} has no {CALIBRATION} and is a drive, whose frames have their own past')
        folders = list(history) if history is not None else _sub_folders(folder)
        if single and history is None:
            folders = [sub for sub in folders if (sub / CALIBRATION).is_file()]
        if not single and not any((sub / CALIBRATION).is_file() for sub in folders):
            raise FileNotFoundError(
                f'{folder}: found {CALIBRATION} neither there nor in a sub-folder: expected the pictures of six '
                f'cameras with {CALIBRATION}, or a drive: a folder of such folders. The documentation of '
                f'{CalibratedFrame.__module__} shows the file'
            )
        self.folder = folder
        self._frames = [read_calibrated_frame(sub) for sub in folders]
        if single:
            self._frames = [*sorted(self._frames, key=lambda frame: frame.timestamp), read_calibrated_frame(folder)]
        _check_together(self._frames)
        self._first = len(self._frames) - 1 if single else 0
        self.sequential = self._first == 0

    @property
    def rate(self) -> float:
        """Frames per second."""
        times = [frame.timestamp for frame in self._frames]
        return 1 / float(np.median(np.diff(times))) if len(times) > 1 else 1 / _KEY_SECONDS

    @property
    def key_interval(self) -> int:
        """Steps from a frame to that half a second later."""
        return max(1, round(_KEY_SECONDS * self.rate))

    def __len__(self) -> int:
        return len(self._frames) - self._first

    def __getitem__(self, number: int) -> MultiViewFrame:
        index = range(self._first, len(self._frames))[number]
        frame = self._frames[index]
        results = dict(
            sample_idx=number,
            token=str(frame.folder),
            scene_token=str(self.folder),
            key_frame=frame.cameras,
            past=[other.cameras for other in self._frames[:index][::-1]],
            future=[other.cameras for other in self._frames[index + 1 :]],
            lidar2global=frame.lidar2global,
            key_interval=self.key_interval,
            ori_shape=frame.size,
            box_type_3d=LiDARInstance3DBoxes,
            box_mode_3d=Box3DMode.LIDAR,
        )
        return MultiViewFrame(frame.folder.name, results)


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(
        (path for path in folder.iterdir() if path.is_dir() and path.name[0] != '.'),
        key=lambda path: natural_key(path.name),
    )


def _check_together(frames: Sequence[CalibratedFrame]) -> None:
    """Refuses frames without time or pose, that are not in the order of time, or that differ in size."""
    if len(frames) == 1:
        return
    for frame in frames:
        if frame.missing:
            raise ValueError(
                f'{frame.folder / CALIBRATION}: {" and ".join(frame.missing)} missing: needed to bring several frames '
                'together'
            )
    for before, frame in pairwise(frames):
        if frame.timestamp <= before.timestamp:
            raise ValueError(
                f'{frame.folder / CALIBRATION}: timestamp goes backwards: found {frame.timestamp:.6f} s, after '
                f'{before.timestamp:.6f} s in {before.folder}; expected names of folders in the order of time, and a '
                'history before its frame'
            )
        if frame.size != before.size:
            raise ValueError(
                f'{frame.folder}: pictures are {frame.size[1]} x {frame.size[0]} pixels, expected {before.size[1]} x '
                f'{before.size[0]} as in {before.folder}; resize them, and multiply the first two rows of their '
                'intrinsics alike'
            )
