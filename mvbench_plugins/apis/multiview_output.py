"""What is written of detections: pictures or a video, and files of the results."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmdet3d.evaluation.metrics import NuScenesMetric
from mmdet3d.structures import Det3DDataSample

from mvbench_plugins.apis.multiview_frames import Frames
from mvbench_plugins.apis.result_files import open_video_file, write_picture

VIDEOS, PICTURES = ('.mp4', '.avi'), ('.jpg', '.jpeg', '.png')
_MODALITY = dict(use_camera=True, use_lidar=False, use_radar=False, use_map=False, use_external=False)


def check_options(
    frames: Frames,
    out: str | Path | None,
    json_out: str | Path | None,
    nuscenes_out: str | Path | None,
    draw_gt: bool,
    view_width: int,
    fps: float | None,
    classes: Sequence[str],
) -> None:
    """Refuses outputs of the inferencer that could not be made, before anything is computed.

    Raises:
        ValueError: naming the option.
    """
    if view_width < 32 or view_width % 2:
        raise ValueError(f'view_width: found {view_width}, expected an even number of pixels from 32 on')
    if fps is not None and not 0 < fps < float('inf'):
        raise ValueError(f'fps: found {fps}, expected a positive number')
    if out is not None:
        suffix = Path(out).suffix.lower()
        if (suffix and suffix not in VIDEOS + PICTURES) or (suffix and Path(out).is_dir()):
            raise ValueError(
                f'out: found {out}, expected {", ".join(VIDEOS + PICTURES)} or a folder (without a suffix)'
            )
        if suffix in PICTURES and len(frames) > 1:
            raise ValueError(f'out: found {out} for {len(frames)} frames, expected a folder or {" or ".join(VIDEOS)}')
    for name, path in (('json_out', json_out), ('nuscenes_out', nuscenes_out)):
        if path is not None and (Path(path).suffix.lower() != '.json' or Path(path).is_dir()):
            raise ValueError(f'{name}: found {path}, expected the name of a file that ends with .json')
    unknown = set(classes) - set(NuScenesMetric.DefaultAttribute)
    if nuscenes_out is not None and unknown:
        raise ValueError(f'nuscenes_out: the model tells classes that nuScenes has not: {", ".join(sorted(unknown))}')
    if not frames.annotated:
        for name, wanted in (('draw_gt', draw_gt), ('nuscenes_out', nuscenes_out is not None)):
            if wanted:
                raise ValueError(f'{name}: only samples of nuScenes have this; leave it out for folders')


class PictureWriter:
    """Writes pictures one after the other into a video, or each into a file.

    Closing finishes a video, after an interrupt too. Of a process that is killed outright an ``.avi`` can be played, an
    ``.mp4`` cannot: its table of contents comes last.

    Args:
        path: video (``.mp4``, ``.avi``), picture (``.jpg``, ``.png``; of the only frame), or a folder for a picture of
            each frame, which is made.
        fps: frames per second of a video.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self.written: list[str] = []
        self._video: cv2.VideoWriter | None = None

    def write(self, name: str, picture: np.ndarray) -> None:
        """Writes a picture (BGR), in a folder under the number and the name of its frame.

        Raises:
            ValueError: OpenCV cannot write there.
        """
        suffix = self.path.suffix.lower()
        if suffix in VIDEOS:
            if self._video is None:
                self._video = open_video_file(self.path, picture.shape[1::-1], self.fps)
                self.written.append(str(self.path))
            self._video.write(picture)
            return
        path = self.path if suffix in PICTURES else self.path / f'{len(self.written):04d}_{name}.jpg'
        write_picture(path, picture)
        self.written.append(str(path))

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._video is not None:
            self._video.release()


def write_submission(
    path: Path, infos: Sequence[dict], samples: Sequence[Det3DDataSample], classes: Sequence[str]
) -> None:
    """Writes the json file that the nuScenes devkit evaluates, as mmdet3d's metric formats it.

    Args:
        path: file to write.
        infos: of each sample ``token``, ``ego2global`` and ``lidar_points``, as info files have them.
        samples: their predictions, on the CPU.
        classes: names by label.
    """
    metric = NuScenesMetric(data_root='', ann_file='', modality=_MODALITY)
    metric.data_infos = list(infos)
    results = [
        dict(sample_idx=index, pred_instances_3d=sample.pred_instances_3d.to_dict())
        for index, sample in enumerate(samples)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        files, _ = metric.format_results(results, list(classes), folder)
        os.replace(files['pred_instances_3d'], path)
