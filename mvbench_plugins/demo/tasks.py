"""The tasks that the page offers: what each takes, which configs do it, and what runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvbench_plugins.demo import runs
from mvbench_plugins.demo.examples import write_cameras_example
from mvbench_plugins.demo.uploads import PICTURES, VIDEOS, check_picture, check_points, check_suffix, check_video

Inferencer = Callable[[str, str, str | None], Any]


@dataclass(frozen=True)
class Task:
    """What a visitor may choose.

    Attributes:
        title: shown on the page.
        hint: what to upload.
        suffixes: of files to upload.
        check: refuses uploads that are no such files.
        plugins: whose configs do it.
        load: from config file, checkpoint file and device to an inferencer.
        run: runs it, see :mod:`~mvbench_plugins.demo.runs`.
        names: regular expression that the names of their released configs begin with.
        models: regular expression that is found in dumped configs of their runs.
        video: whether a video is uploaded.
        drawing: whether objects are drawn on its first frame.
        scored: whether results have scores.
        details: what else to say of the upload, in Markdown.
        example: writes a file to upload.
    """

    title: str
    hint: str
    suffixes: tuple[str, ...]
    check: Callable[[Path], None]
    plugins: tuple[str, ...]
    load: Inferencer
    run: Callable[[Any, runs.Job], runs.Result]
    names: str = ''
    models: str = ''
    video: bool = False
    drawing: bool = False
    scored: bool = True
    details: str = ''
    example: Callable[[Path], None] | None = None


# Each toolbox takes seconds to import, and a user may have one of them only: not before it is needed.
def _load_detector(config: str, checkpoint: str, device: str | None) -> Any:
    from mmdet.apis import DetInferencer

    return DetInferencer(config, checkpoint, device, show_progress=False)


def _load_actions(config: str, checkpoint: str, device: str | None) -> Any:
    from mvbench_plugins.apis import ActionDetInferencer

    return ActionDetInferencer(config, checkpoint, device, show_progress=False)


def _load_cameras(config: str, checkpoint: str, device: str | None) -> Any:
    from mvbench_plugins.apis import MultiViewDet3DInferencer

    return MultiViewDet3DInferencer(config, checkpoint, device, show_progress=False)


def _load_lidar_detector(config: str, checkpoint: str, device: str | None) -> Any:
    from mmdet3d.apis import LidarDet3DInferencer

    return _quiet(LidarDet3DInferencer(config, checkpoint, device))


def _load_lidar_segmentor(config: str, checkpoint: str, device: str | None) -> Any:
    from mmdet3d.apis import LidarSeg3DInferencer

    return _quiet(LidarSeg3DInferencer(config, checkpoint, device))


def _load_segmenter(config: str, checkpoint: str, device: str | None) -> Any:
    from mvbench_plugins.apis import VOSInferencer

    return VOSInferencer(config, checkpoint, device, show_progress=False)


def _quiet(inferencer: Any) -> Any:
    inferencer.show_progress = False  # no argument of mmdet3d's
    return inferencer


_SWEEP = 'a LiDAR sweep (.bin: float32, as many numbers a point as the config loads)'
_TASKS = (
    Task(
        'Object detection',
        f'A picture ({", ".join(PICTURES)}).',
        PICTURES,
        check_picture,
        ('deqdet',),
        _load_detector,
        runs.detect_objects,
    ),
    Task(
        'Action detection',
        f'A video with people ({", ".join(VIDEOS)}).',
        VIDEOS,
        check_video,
        ('stmixer', 'evad'),
        _load_actions,
        runs.detect_actions,
        video=True,
    ),
    Task(
        '3D detection with six cameras',
        'A zip file with the pictures of six cameras and a calibration.json, or a drive: a folder of this kind for '
        'each frame.',
        ('.zip',),
        lambda path: check_suffix(path, ('.zip',)),
        ('sparsebev',),
        _load_cameras,
        runs.detect_around,
        details='`calibration.json` tells of each camera (CAM_FRONT, CAM_FRONT_RIGHT, CAM_FRONT_LEFT, CAM_BACK, '
        'CAM_BACK_LEFT, CAM_BACK_RIGHT) the file of its picture, `image`; its `intrinsics` (3 x 3, in pixels); and '
        'where it sits on the vehicle, `cam2ego` (4 x 4, in metres); of each frame of a drive also `timestamp` '
        '(seconds) and `ego2global`. All fields and the axes: documentation of '
        '`mvbench_plugins.apis.multiview_calibration`.\n\n'
        '**Take an example** makes such a file of the toy world, to be run as it is, or downloaded and looked into.',
        example=write_cameras_example,
    ),
    Task(
        '3D detection with LiDAR',
        f'{_SWEEP[0].upper()}{_SWEEP[1:]}.',
        ('.bin',),
        check_points,
        ('link',),
        _load_lidar_detector,
        runs.detect_in_points,
        names='link_det',
        models='LinKCenterPoint',
    ),
    Task(
        'Segmentation of LiDAR points',
        f'{_SWEEP[0].upper()}{_SWEEP[1:]}.',
        ('.bin',),
        check_points,
        ('link',),
        _load_lidar_segmentor,
        runs.segment_points,
        names='link(?!_det)',
        models='LinKSegmentor',
        scored=False,
    ),
    Task(
        'Video object segmentation',
        f'A video ({", ".join(VIDEOS)}). Then paint the objects to follow on its first frame, each in its own colour.',
        VIDEOS,
        check_video,
        ('jointformer',),
        _load_segmenter,
        runs.follow_objects,
        names='jointformer_(?!eval)',
        video=True,
        drawing=True,
        scored=False,
    ),
)
#: The tasks by their titles.
TASKS = {task.title: task for task in _TASKS}
