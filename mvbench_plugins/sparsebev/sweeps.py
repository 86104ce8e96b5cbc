"""Info files with the camera sets between key frames, from the tables of nuScenes.

They are mmdet3d's info files, without LiDAR sweeps and boxes in images, with more beside:

- ``metainfo``: ``key_interval``, number of camera sets from key frame to key frame; ``image_size``, height and width.
- of a sample, ``scene_token``, and ``camera_sweeps``, newest first: the ``key_interval - 1`` sets that the cameras took
  before it, ``{camera: {img_path (relative to the root), timestamp (s), cam2img, cam2global}}``. The first sample of
  a scene has none.
- of a camera of the key frame, ``cam2global``, its pose at its own time.

Samples of a scene follow each other in time, scenes too. Poses are not rounded to float32 as mmdet3d's are.
"""

from __future__ import annotations

import difflib
import itertools
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.datasets.convert_utils import NuScenesNameMapping
from mmengine.logging import print_log
from nuscenes.utils import splits as official
from nuscenes.utils.color_map import get_colormap
from pyquaternion import Quaternion
from tqdm import tqdm

from .frames import CAMERAS
from .nuscenes_tables import LIDAR, NuScenesTables

SPLITS = {
    'v1.0-trainval': ('train', 'val'),
    'v1.0-test': ('test',),
    'v1.0-mini': ('mini_train', 'mini_val'),
}
_CLASSES = NuScenesDataset.METAINFO['classes']
_MAX_GAP = 1.5  # seconds between two samples from which a velocity is still taken
_SHOWN = 10


def write_infos(
    root: str | os.PathLike, version: str, out_dir: str | os.PathLike, tag: str, overwrite: bool = False
) -> dict[Path, int]:
    """Write ``<tag>_infos_<split>.pkl`` for each split of a version.

    A file appears when it is complete; those that are there are left as they are. Nothing is written when an image is
    missing.

    Args:
        root: folder of the data set.
        version: ``'v1.0-trainval'``, ``'v1.0-test'`` or ``'v1.0-mini'``.
        out_dir: folder of the files.
        tag: start of their names.
        overwrite: replace those that are there.

    Returns:
        Number of samples in each file that was written.

    Raises:
        FileNotFoundError: a table or an image is missing; ``<out_dir>/<tag>_missing_images.txt`` lists the images.
        ValueError: the version is unknown, or the tables are wrong.
    """
    if version not in SPLITS:
        raise ValueError(f'version: found {version!r}, expected one of {", ".join(SPLITS)}')
    paths = {split: Path(out_dir) / f'{tag}_infos_{split}.pkl' for split in SPLITS[version]}
    wanted = {split: path for split, path in paths.items() if overwrite or not path.exists()}
    if not wanted:
        return {}
    tables = NuScenesTables(root, version)
    _tell_of_unknown_categories(tables)
    interval = key_interval(tables)
    metainfo = dict(
        categories={name: i for i, name in enumerate(_CLASSES)}
        | {name: -1 for name in tables.categories if name not in NuScenesNameMapping},
        dataset='nuscenes',
        version=version,
        info_version='1.1',
        key_interval=interval,
        image_size=tables.image_size,
    )
    data_lists = {split: split_infos(tables, split, interval - 1) for split in wanted}
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    check_images(root, data_lists.values(), Path(out_dir) / f'{tag}_missing_images.txt')
    for split, path in wanted.items():
        write_info_file(path, metainfo, data_lists[split])
    return {path: len(data_lists[split]) for split, path in wanted.items()}


def _tell_of_unknown_categories(tables: NuScenesTables) -> None:
    """Boxes of categories that nuScenes does not have belong to no class; those of most others neither, on purpose."""
    for name in sorted(set(tables.categories) - set(get_colormap())):
        close = difflib.get_close_matches(name, NuScenesNameMapping, n=1)
        print_log(
            f'{tables.folder / "category.json"}: {name!r} is no category of nuScenes, its boxes are not used'
            + (f'. Did you mean {close[0]!r}?' if close else ''),
            'current',
            logging.WARNING,
        )


def key_interval(tables: NuScenesTables) -> int:
    """Number of camera sets from key frame to key frame, mostly: 6 in nuScenes."""
    steps = []
    for sample in tables.samples.values():
        if not sample['prev']:
            continue
        first = tables.key_files[sample['token']].get(CAMERAS[0])
        if first is None:
            continue  # told when its scene is read
        file, count = tables.files[first], 0
        while count == 0 or not file['is_key_frame']:
            before = tables.earlier_files(file, 1)
            if not before:
                break
            file, count = before[0], count + 1
            if count > len(tables.files):
                raise ValueError(
                    f'{tables.folder / "sample_data.json"}: the predecessors of record {first} go round in a circle, '
                    'expected an end; restore the original table'
                )
        steps.append(count)
    return max(1, round(float(np.median(steps)))) if steps else 1


def split_infos(tables: NuScenesTables, split: str, num_sweeps: int) -> list[dict[str, Any]]:
    """Entries of a split.

    Args:
        tables: of the version that the split belongs to.
        split: name of the official split.
        num_sweeps: number of camera sets before each key frame.

    Raises:
        ValueError: there are no scenes of the split, or the tables are wrong.
    """
    names = set(getattr(official, split))
    scenes = [scene for scene in tables.scenes.values() if scene['name'] in names]
    if not scenes:
        found = sorted(scene['name'] for scene in tables.scenes.values())[:3]
        raise ValueError(
            f'{tables.folder / "scene.json"}: found no scene of the split {split!r} (but {", ".join(found)}, ...); '
            'check --version; scenes of your own need names of the official splits, such as scene-0041 (training) and '
            'scene-0092 (validation)'
        )
    chains = sorted((tables.samples_of(scene) for scene in scenes), key=lambda samples: samples[0]['timestamp'])
    samples = [sample for chain in chains for sample in chain]
    progress = tqdm(samples, desc=f'{tables.folder}: {split}', unit='sample')
    return [{'sample_idx': i, **sample_info(tables, sample, num_sweeps)} for i, sample in enumerate(progress)]


def sample_info(tables: NuScenesTables, sample: dict, num_sweeps: int) -> dict[str, Any]:
    """Entry of a sample, see the module."""
    keys = {channel: tables.files[token] for channel, token in tables.key_files[sample['token']].items()}
    lidar = keys[LIDAR]
    lidar2ego, ego2global = tables.sensor2ego(lidar), tables.ego2global(lidar)
    lidar2global = ego2global @ lidar2ego
    images = {}
    for camera in CAMERAS:
        entry = _image(tables, keys[camera])
        images[camera] = {
            **entry,
            'img_path': Path(entry['img_path']).name,
            'sample_data_token': keys[camera]['token'],
            'cam2ego': tables.sensor2ego(keys[camera]).tolist(),
            'lidar2cam': (np.linalg.inv(entry['cam2global']) @ lidar2global).tolist(),
        }
    return dict(
        token=sample['token'],
        scene_token=sample['scene_token'],
        timestamp=sample['timestamp'] / 1e6,
        ego2global=ego2global.tolist(),
        lidar_points=dict(num_pts_feats=5, lidar_path=Path(lidar['filename']).name, lidar2ego=lidar2ego.tolist()),
        images=images,
        camera_sweeps=_camera_sweeps(tables, keys, num_sweeps) if sample['prev'] else [],
        instances=_instances(tables, sample, lidar2global),
    )


def _camera_sweeps(tables: NuScenesTables, keys: dict[str, dict], count: int) -> list[dict[str, dict]]:
    """Sets before a key frame; where a camera has no more, the last whole set is repeated, as it was for training."""
    earlier = {camera: tables.earlier_files(keys[camera], count) for camera in CAMERAS}
    whole = min(len(files) for files in earlier.values())
    sets = [{camera: _image(tables, earlier[camera][i]) for camera in CAMERAS} for i in range(whole)]
    last = sets[-1] if sets else {camera: _image(tables, keys[camera]) for camera in CAMERAS}
    return sets + [last] * (count - whole)


def _image(tables: NuScenesTables, file: dict) -> dict[str, Any]:
    return dict(
        img_path=file['filename'],
        timestamp=file['timestamp'] / 1e6,
        cam2img=tables.intrinsic(file).tolist(),
        cam2global=(tables.ego2global(file) @ tables.sensor2ego(file)).tolist(),
    )


def _instances(tables: NuScenesTables, sample: dict, lidar2global: np.ndarray) -> list[dict[str, Any]]:
    """Annotations in LiDAR coordinates: centre, length, width, height and yaw; velocity in m/s."""
    rotation, origin = lidar2global[:3, :3].T, lidar2global[:3, 3]
    turn = Quaternion(matrix=rotation)
    instances = []
    for token in tables.sample_annotations[sample['token']]:
        record = tables.annotations[token]
        center = rotation @ (np.array(record['translation']) - origin)
        width, length, height = record['size']
        yaw, _, _ = (turn * Quaternion(record['rotation'])).yaw_pitch_roll
        name = NuScenesNameMapping.get(record['category_name'])
        label = _CLASSES.index(name) if name else -1
        instance = dict(
            bbox_label=label,
            bbox_3d=[*center.tolist(), length, width, height, yaw],
            bbox_3d_isvalid=record['num_lidar_pts'] + record['num_radar_pts'] > 0,
            bbox_label_3d=label,
            num_lidar_pts=record['num_lidar_pts'],
            num_radar_pts=record['num_radar_pts'],
            velocity=(rotation @ [*_velocity(tables, record), 0])[:2].tolist(),
        )
        instances.append(instance)
    return instances


def _velocity(tables: NuScenesTables, record: dict) -> np.ndarray:
    """Velocity in the world ``[2]`` in m/s between the annotations before and after, NaN where there are none."""
    first, last = (tables.annotations[record[link]] if record[link] else record for link in ('prev', 'next'))
    times = [tables.samples[each['sample_token']]['timestamp'] for each in (first, last)]
    seconds = (times[1] - times[0]) / 1e6
    gaps = (first is not record) + (last is not record)
    if gaps and seconds <= 0:
        raise ValueError(
            f'{tables.folder / "sample_annotation.json"}: record {record["token"]}: found prev and next that do not '
            'follow each other in time; restore the original table'
        )
    if gaps == 0 or seconds > gaps * _MAX_GAP:
        return np.full(2, np.nan)
    return (np.array(last['translation']) - first['translation'])[:2] / seconds


def check_images(root: str | os.PathLike, data_lists: Iterable[list[dict]], list_file: Path) -> None:
    """Look for all images of info files.

    Args:
        root: folder of the data set.
        data_lists: entries of info files.
        list_file: written with the names of the images that are missing, relative to the root.

    Raises:
        FileNotFoundError: images are missing.
    """
    names: set[str] = set()
    for info in itertools.chain.from_iterable(data_lists):
        names.update(f'samples/{camera}/{entry["img_path"]}' for camera, entry in info['images'].items())
        names.update(entry['img_path'] for sweep in info['camera_sweeps'] for entry in sweep.values())
    # One look into each folder: a million files are slow to ask for one by one.
    folders = {os.path.dirname(name) for name in names}
    missing = sorted(names.difference(f'{folder}/{name}' for folder in folders for name in _names(Path(root, folder))))
    if not missing:
        list_file.unlink(missing_ok=True)
        return
    list_file.write_text('\n'.join(missing) + '\n', encoding='utf-8')
    raise FileNotFoundError(
        f'{root}: {len(missing)} of {len(names)} images are missing, all listed in {list_file}; the first: '
        f'{", ".join(missing[:_SHOWN])}. Extract the archives of key frames and of sweeps of all cameras there, then '
        'run the same command again'
    )


def write_info_file(path: Path, metainfo: dict, data_list: list[dict]) -> None:
    """Write an info file, which appears when it is complete."""
    draft = path.with_name(f'{path.name}.part')
    mmengine.dump(dict(metainfo=metainfo, data_list=data_list), draft, 'pkl')
    os.replace(draft, path)


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
