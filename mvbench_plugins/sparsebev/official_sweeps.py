"""Info files from the official code's ``nuscenes_infos_<split>_sweep.pkl``, without the tables of nuScenes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets import NuScenesDataset
from pyquaternion import Quaternion

from mvbench_plugins.common.inert_unpickler import load_plain_pickle
from mvbench_plugins.common.naming import naming

from .frames import CAMERAS
from .sweeps import check_images, write_info_file

_KEY_INTERVAL = 6  # five camera sets between two key frames
_IMAGE_SIZE = 900, 1600  # not in the official files, which are of the real nuScenes only
_CLASSES = NuScenesDataset.METAINFO['classes']
_FIELDS = (
    'token',
    'timestamp',
    'lidar_path',
    'lidar2ego_rotation',
    'lidar2ego_translation',
    'ego2global_rotation',
    'ego2global_translation',
    'cams',
    'sweeps',
)
_BOX_FIELDS = ('gt_names', 'gt_velocity', 'num_lidar_pts', 'valid_flag')  # beside gt_boxes
_CAMERA_FIELDS = ('data_path', 'timestamp', 'cam_intrinsic', 'sensor2global_rotation', 'sensor2global_translation')


def convert_infos(
    files: Sequence[str | os.PathLike], root: str | os.PathLike, out_dir: str | os.PathLike, tag: str, overwrite: bool
) -> dict[Path, int]:
    """Write ``<tag>_infos_<split>.pkl`` for each ``nuscenes_infos_<split>_sweep.pkl``.

    Args:
        files: official files.
        root: folder of the data set, where the images are.
        out_dir: folder of the info files.
        tag: start of their names.
        overwrite: replace those that are there.

    Returns:
        Number of samples in each file that was written.

    Raises:
        FileNotFoundError: a file or an image is missing.
        ValueError: a file is no official one.
    """
    written = {}
    for file in map(Path, files):
        split = file.stem.removeprefix('nuscenes_infos_').removesuffix('_sweep')
        path = Path(out_dir) / f'{tag}_infos_{split}.pkl'
        if path.exists() and not overwrite:
            continue
        data_list, scene = [], ''
        with naming(file, 'expected a file of the official gen_sweep_info.py; make it again'):
            official = _load(file)
            for i, info in enumerate(sorted(official['infos'], key=lambda info: info['timestamp'])):
                scene = scene if info['sweeps'] else info['token']  # a scene starts where there is nothing before
                data_list.append(dict(sample_idx=i, scene_token=scene, **_convert(info, _place(file, info))))
        metainfo = dict(
            categories={name: i for i, name in enumerate(_CLASSES)},
            dataset='nuscenes',
            version=official['metadata']['version'],
            info_version='1.1',
            key_interval=_KEY_INTERVAL,
            image_size=_IMAGE_SIZE,
        )
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        check_images(root, [data_list], Path(out_dir) / f'{tag}_missing_images.txt')
        write_info_file(path, metainfo, data_list)
        written[path] = len(data_list)
    return written


def _load(file: Path) -> dict[str, Any]:
    """Reads an official file, and looks for all fields that are needed."""
    if not file.is_file():
        raise FileNotFoundError(f'{file}: no such file; expected one of the official gen_sweep_info.py')
    try:
        official = load_plain_pickle(file)
    except ValueError as error:
        raise ValueError(f'{file}: not a complete pickle file of plain data ({error}); make it again') from None
    if not (isinstance(official, dict) and {'infos', 'metadata'} <= set(official)):
        raise ValueError(f'{file}: found no "infos" and "metadata", expected a file of the official gen_sweep_info.py')
    _require(('version',), official['metadata'], f'{file}: metadata')
    for info in official['infos']:
        place = _place(file, info)
        _require(_FIELDS + (_BOX_FIELDS if 'gt_boxes' in info else ()), info, place)
        _require(CAMERAS, info['cams'], f'{place}: cams')
        # Files of mmdet3d itself have sweeps of the LiDAR; their cameras lack poses, which is told first.
        sets = [('cams', info['cams']), *((f'sweeps[{i}]', sweep) for i, sweep in enumerate(info['sweeps']))]
        for name, cameras in sets:
            for camera in CAMERAS:
                if camera in cameras:
                    _require(_CAMERA_FIELDS, cameras[camera], f'{place}: {name}.{camera}')
    return official


def _place(file: Path, info: dict) -> str:
    return f'{file}: sample {info.get("token")}'


def _require(fields: Sequence[str], record: dict, place: str) -> None:
    absent = [field for field in fields if field not in record]
    if absent:
        raise ValueError(
            f'{place}: found no {", ".join(absent)}; expected a file of the official gen_sweep_info.py, whose names '
            'end in _sweep.pkl; without one, use the tables (no --from-official)'
        )


def _convert(info: dict, place: str) -> dict[str, Any]:
    lidar2ego, ego2global = _pose(info, 'lidar2ego'), _pose(info, 'ego2global')
    images = {}
    for camera in CAMERAS:
        entry = _image(info['cams'][camera])
        lidar2cam = np.linalg.inv(entry['cam2global']) @ ego2global @ lidar2ego
        entry.update(img_path=Path(entry['img_path']).name, lidar2cam=lidar2cam.tolist())
        images[camera] = entry
    sweeps: list[dict[str, dict]] = []
    for sweep in info['sweeps']:
        whole = len(sweep) == len(CAMERAS)
        if not whole and not sweeps:
            raise ValueError(f'{place}: sweeps[0]: found only {", ".join(sweep)}, expected {", ".join(CAMERAS)}')
        # The official loader takes the set before in place of one that lacks a camera.
        sweeps.append({camera: _image(sweep[camera]) for camera in CAMERAS} if whole else sweeps[-1])
    return dict(
        token=info['token'],
        timestamp=info['timestamp'] / 1e6,
        ego2global=ego2global.tolist(),
        lidar_points=dict(num_pts_feats=5, lidar_path=Path(info['lidar_path']).name, lidar2ego=lidar2ego.tolist()),
        images=images,
        camera_sweeps=sweeps,
        instances=[_instance(info, i) for i in range(len(info.get('gt_boxes', ())))],
    )


def _image(camera: dict) -> dict[str, Any]:
    cam2global = np.eye(4)
    cam2global[:3, :3] = np.transpose(camera['sensor2global_rotation'])  # stored for row vectors
    cam2global[:3, 3] = camera['sensor2global_translation']
    return dict(
        img_path='/'.join(Path(camera['data_path']).parts[-3:]),
        timestamp=camera['timestamp'] / 1e6,
        cam2img=np.asarray(camera['cam_intrinsic']).tolist(),
        cam2global=cam2global.tolist(),
    )


def _instance(info: dict, i: int) -> dict[str, Any]:
    name = info['gt_names'][i]
    label = _CLASSES.index(name) if name in _CLASSES else -1
    return dict(
        bbox_label=label,
        bbox_3d=[float(value) for value in info['gt_boxes'][i]],
        bbox_3d_isvalid=bool(info['valid_flag'][i]),
        bbox_label_3d=label,
        num_lidar_pts=int(info['num_lidar_pts'][i]),
        velocity=[float(value) for value in info['gt_velocity'][i]],
    )


def _pose(info: dict, name: str) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Quaternion(info[f'{name}_rotation']).rotation_matrix
    pose[:3, 3] = info[f'{name}_translation']
    return pose
