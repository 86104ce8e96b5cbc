"""The tables of a nuScenes database, as far as surround cameras and boxes need them.

The devkit's class reads all of them, maps too, and keeps the files of all sensors; this one reads nine, one after the
other, and keeps what six cameras and the key frames of the LiDAR refer to.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pyquaternion import Quaternion
from tqdm import tqdm

from .frames import CAMERAS, are_intrinsics, as_numbers

LIDAR = 'LIDAR_TOP'
# Fields of each table that are used.
_TABLES = {
    'scene': 'token name first_sample_token',
    'sample': 'token timestamp scene_token prev next',
    'sensor': 'token channel modality',
    'calibrated_sensor': 'token sensor_token translation rotation camera_intrinsic',
    'sample_data': 'token sample_token calibrated_sensor_token ego_pose_token filename timestamp is_key_frame height '
    'width prev',
    'ego_pose': 'token translation rotation',
}
_ANNOTATIONS = {
    'category': 'token name',
    'instance': 'token category_token',
    'sample_annotation': 'token sample_token instance_token translation size rotation num_lidar_pts num_radar_pts '
    'attribute_tokens prev next',
}
# What fields hold that are not text, and how many numbers.
_KINDS: dict[str, type | tuple[type, ...]] = {
    'timestamp': (int, float),
    'is_key_frame': bool,
    'height': int,
    'width': int,
    'num_lidar_pts': int,
    'num_radar_pts': int,
    'camera_intrinsic': list,
    'attribute_tokens': list,
    'translation': list,
    'rotation': list,
    'size': list,
}
_BOX = {'translation': 3, 'size': 3, 'rotation': 4}
_NEVER_EMPTY = {'scene', 'sample', 'sample_data', 'ego_pose'}
_LATEST = 1 << 62  # microseconds
_UNIT = 1e-2  # how far the length of a quaternion may be from 1


class NuScenesTables:
    """Checked records by token.

    Attributes:
        scenes, samples, annotations: records of the tables, under their tokens, in the order of the tables;
            annotations have their category's name under ``category_name``. Without annotations, as in the test set,
            there are none.
        files: ``sample_data`` of cameras and of the LiDAR at key frames, under their tokens.
        key_files: of each sample, the token in ``files`` of each channel.
        sample_annotations: of each sample, the tokens of its annotations.
        image_size: height and width of all images in pixels.

    Args:
        root: folder of the data set.
        version: name of the folder of tables in it, such as ``'v1.0-trainval'``.

    Raises:
        FileNotFoundError: a table is missing.
        ValueError: a table is damaged, a record lacks a field or refers to one that another table does not have, a
            calibration is singular, or images differ in size.
    """

    def __init__(self, root: str | os.PathLike, version: str) -> None:
        self.folder = Path(root) / version
        annotated = not version.endswith('test')
        names = _TABLES | _ANNOTATIONS if annotated else _TABLES
        self._check_tables(names)
        with tqdm(desc=f'reading {self.folder}', total=len(names), unit='table') as self._progress:
            self.scenes = _by_token(self._read('scene'))
            self.samples = _by_token(self._read('sample'))
            self._mounts = self._read_mounts()
            self.files = _by_token(self._read('sample_data', self._is_used))
            poses = {record['ego_pose_token'] for record in self.files.values()}
            self._poses = _by_token(self._read('ego_pose', lambda record: record['token'] in poses))
            self.key_files = self._key_files()
            self.image_size = self._image_size()
            self.categories: list[str] = []
            self.annotations: dict[str, dict] = {}
            self.sample_annotations: dict[str, list[str]] = defaultdict(list)
            if annotated:
                self._read_annotations()

    def channel(self, file: dict) -> str:
        """Name of the sensor that took a file."""
        return self._mounts[file['calibrated_sensor_token']]['channel']

    def intrinsic(self, file: dict) -> np.ndarray:
        """Camera matrix ``[3, 3]`` in pixels."""
        return self._mounts[file['calibrated_sensor_token']]['intrinsic']

    def sensor2ego(self, file: dict) -> np.ndarray:
        """Pose ``[4, 4]`` of the sensor on the car."""
        return self._mounts[file['calibrated_sensor_token']]['pose']

    def ego2global(self, file: dict) -> np.ndarray:
        """Pose ``[4, 4]`` of the car in the world when a file was taken.

        Raises:
            ValueError: there is none, or its rotation is no rotation.
        """
        record = self._get(self._poses, file['ego_pose_token'], 'ego_pose', f'sample_data {file["token"]}')
        return self._pose(record, 'ego_pose')

    def earlier_files(self, file: dict, count: int) -> list[dict]:
        """Up to ``count`` files that the same camera took before, newest first.

        Raises:
            ValueError: time goes backwards, or there is no end.
        """
        files = [file]
        while len(files) <= count and files[-1]['prev']:
            before = self._get(self.files, files[-1]['prev'], 'sample_data', f'sample_data {files[-1]["token"]}.prev')
            if before['timestamp'] > files[-1]['timestamp']:
                raise ValueError(
                    f'{self.folder / "sample_data.json"}: record {files[-1]["token"]}: timestamp goes backwards: found '
                    f'{files[-1]["timestamp"]}, after {before["timestamp"]} of its predecessor {before["token"]}; '
                    'expected times that increase along a camera; restore the original table'
                )
            if before in files or self.channel(before) != self.channel(file):
                raise ValueError(
                    f'{self.folder / "sample_data.json"}: record {files[-1]["token"]}: found the predecessor '
                    f'{before["token"]}, which comes later or is of {self.channel(before)}; expected an earlier file '
                    f'of {self.channel(file)}; restore the original table'
                )
            files.append(before)
        return files[1:]

    def samples_of(self, scene: dict) -> list[dict]:
        """Samples of a scene from the first to the last.

        Raises:
            ValueError: time goes backwards, or a sample lacks a camera or the LiDAR.
        """
        samples: list[dict] = []
        token = scene['first_sample_token']
        while token:
            sample = self._get(self.samples, token, 'sample', f'scene {scene["name"]}')
            if samples and sample['timestamp'] <= samples[-1]['timestamp']:
                raise ValueError(
                    f'{self.folder / "sample.json"}: record {token}: timestamp goes backwards: found '
                    f'{sample["timestamp"]}, after {samples[-1]["timestamp"]} of the sample before it in '
                    f'{scene["name"]}; expected times that increase; restore the original table'
                )
            if sample['scene_token'] != scene['token']:
                raise ValueError(
                    f'{self.folder / "sample.json"}: record {token}: found the scene {sample["scene_token"]}, expected '
                    f'{scene["token"]} ({scene["name"]}), whose samples lead to it; restore the original table'
                )
            absent = {*CAMERAS, LIDAR} - set(self.key_files[token])
            if absent:
                raise ValueError(
                    f'{self.folder / "sample_data.json"}: found no key frame of {", ".join(sorted(absent))} for the '
                    f'sample {token} of {scene["name"]}, expected one of each camera and of {LIDAR}'
                )
            samples.append(sample)
            token = sample['next']
        return samples

    def _check_tables(self, names: Iterable[str]) -> None:
        for path in (self.folder / f'{name}.json' for name in names):
            if not path.is_file():
                raise FileNotFoundError(
                    f'{path}: table not found; expected <root>/<version>/*.json as in the archives of nuScenes; check '
                    '--root-path and --version'
                )

    def _read(self, name: str, is_used: Callable[[dict], bool] | None = None) -> list[dict]:
        """Records of a table; those that are not used are dropped one by one while it is read: it may have millions."""
        path = self.folder / f'{name}.json'
        fields = set((_TABLES | _ANNOTATIONS)[name].split())

        def choose(record: dict) -> dict | None:
            try:
                return None if is_used and fields <= record.keys() and not is_used(record) else record
            except TypeError:  # no token; the record is refused below
                return record

        try:
            records = json.loads(path.read_text(encoding='utf-8'), object_hook=choose)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{path}: not valid JSON ({error}); download the table again') from None
        if not isinstance(records, list) or (name in _NEVER_EMPTY and not records):
            raise ValueError(f'{path}: found no records; download the table again')
        records = [record for record in records if record is not None]
        for record in records:
            found = record if isinstance(record, dict) else {'token': record}
            if not fields <= found.keys():
                raise ValueError(
                    f'{path}: record {found.get("token")}: found no {", ".join(sorted(fields - found.keys()))}; '
                    'download the table again'
                )
        for field in fields:
            kind: Any = _KINDS.get(field, str)
            for record in records:
                value = record[field]
                if not isinstance(value, kind) or (field == 'timestamp' and not 0 <= value < _LATEST):
                    raise ValueError(
                        f'{path}: record {record["token"]}: {field}: found {value!r}, expected {_named(kind)}; '
                        'correct the table, or download it again'
                    )
        self._progress.update()
        return records

    def _read_mounts(self) -> dict[str, dict[str, Any]]:
        """Channel, pose and camera matrix of each ``calibrated_sensor`` of a camera or the LiDAR."""
        channels = {record['token']: record['channel'] for record in self._read('sensor')}
        mounts = {}
        for record in self._read('calibrated_sensor'):
            place = f'calibrated_sensor {record["token"]}'
            channel = self._get(channels, record['sensor_token'], 'sensor', place)
            if channel not in (*CAMERAS, LIDAR):
                continue
            intrinsic = as_numbers(record['camera_intrinsic'], (3, 3))
            if channel != LIDAR and (intrinsic is None or not are_intrinsics(intrinsic)):
                raise ValueError(
                    f'{self.folder / "calibrated_sensor.json"}: record {record["token"]} ({channel}): found the '
                    f'camera_intrinsic {record["camera_intrinsic"]}, which is singular or no camera matrix; expected '
                    '[[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, fx and fy above 0; restore the original table'
                )
            pose = self._pose(record, 'calibrated_sensor')
            mounts[record['token']] = dict(channel=channel, intrinsic=intrinsic, pose=pose)
        return mounts

    def _is_used(self, file: dict) -> bool:
        mount = self._mounts.get(file['calibrated_sensor_token'])
        return mount is not None and (mount['channel'] != LIDAR or file['is_key_frame'])

    def _key_files(self) -> dict[str, dict[str, str]]:
        key_files: dict[str, dict[str, str]] = defaultdict(dict)
        for token, record in self.files.items():
            if record['is_key_frame']:
                channels = key_files[record['sample_token']]
                self._get(self.samples, record['sample_token'], 'sample', f'sample_data {token}')
                if self.channel(record) in channels:
                    raise ValueError(
                        f'{self.folder / "sample_data.json"}: records {channels[self.channel(record)]} and {token}: '
                        f'found two key frames of {self.channel(record)} for the sample {record["sample_token"]}, '
                        'expected one; restore the original table'
                    )
                channels[self.channel(record)] = token
        return key_files

    def _read_annotations(self) -> None:
        categories, instances = _by_token(self._read('category')), _by_token(self._read('instance'))
        self.categories = [record['name'] for record in categories.values()]
        self.annotations = _by_token(self._read('sample_annotation'))
        self._check_boxes(list(self.annotations.values()))
        for token, record in self.annotations.items():
            place = f'sample_annotation {token}'
            instance = self._get(instances, record['instance_token'], 'instance', place)
            category = self._get(categories, instance['category_token'], 'category', place)
            record['category_name'] = category['name']
            self._get(self.samples, record['sample_token'], 'sample', place)
            for link in ('prev', 'next'):
                if record[link]:
                    self._get(self.annotations, record[link], 'sample_annotation', f'{place}.{link}')
            self.sample_annotations[record['sample_token']].append(token)

    def _check_boxes(self, records: list[dict]) -> None:
        if not records or _are_boxes(records):
            return
        record = next(record for record in records if not _are_boxes([record]))
        raise ValueError(
            f'{self.folder / "sample_annotation.json"}: record {record["token"]}: found '
            f'{", ".join(f"{field} {record[field]}" for field in _BOX)}; expected translation [x, y, z] and size '
            '[width, length, height] above 0 in metres and a rotation [w, x, y, z] of length 1; restore the original '
            'table'
        )

    def _image_size(self) -> tuple[int, int]:
        size = None
        for record in self.files.values():
            if self.channel(record) == LIDAR:
                continue
            found = record['height'], record['width']
            size = size or found
            if found != size or min(found) < 1:
                raise ValueError(
                    f'{self.folder / "sample_data.json"}: record {record["token"]}: found an image of height and width '
                    f'{found}, expected {size} as of the others; projections would be wrong'
                )
        if size is None:
            raise ValueError(f'{self.folder / "sample_data.json"}: found no file of {", ".join(CAMERAS)}')
        return size

    def _pose(self, record: dict, table: str) -> np.ndarray:
        rotation, translation = as_numbers(record['rotation'], (4,)), as_numbers(record['translation'], (3,))
        if rotation is None or translation is None or abs(np.linalg.norm(rotation) - 1) >= _UNIT:
            raise ValueError(
                f'{self.folder / f"{table}.json"}: record {record["token"]}: found rotation {record["rotation"]} and '
                f'translation {record["translation"]}, which is singular or no pose; expected a quaternion '
                '[w, x, y, z] of length 1 and [x, y, z] in metres; restore the original table'
            )
        pose = np.eye(4)
        pose[:3, :3] = Quaternion(rotation).rotation_matrix
        pose[:3, 3] = translation
        return pose

    def _get(self, records: dict[str, Any], token: str, table: str, place: str) -> Any:
        if token not in records:
            raise ValueError(
                f'{self.folder}: {place}: found the token {token!r}, which {table}.json does not have; the tables do '
                'not belong together, download them again'
            )
        return records[token]


def _by_token(records: list[dict]) -> dict[str, dict]:
    return {record['token']: record for record in records}


def _are_boxes(records: list[dict]) -> bool:
    """Whether all annotations are boxes: at once, since there are a million of them."""
    translations, sizes, rotations = (
        as_numbers([record[field] for record in records], (len(records), count)) for field, count in _BOX.items()
    )
    if translations is None or sizes is None or rotations is None:
        return False
    return bool((sizes > 0).all() and (abs(np.linalg.norm(rotations, axis=1) - 1) < _UNIT).all())


def _named(kind: type | tuple[type, ...]) -> str:
    names: dict[object, str] = {str: 'text', bool: 'true or false', int: 'a whole number', list: 'a list of numbers'}
    return names.get(kind, 'microseconds')
