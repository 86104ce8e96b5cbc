"""The tables of a nuScenes database, as far as surround cameras and boxes need them.

The devkit's class reads all of them, maps too, and keeps the files of all sensors; this one reads eight and keeps what
six cameras and the key frames of the LiDAR refer to.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from pyquaternion import Quaternion
from tqdm import tqdm

from .frames import CAMERAS

LIDAR = 'LIDAR_TOP'
_TABLES = ('scene', 'sample', 'sensor', 'calibrated_sensor', 'sample_data', 'ego_pose')
_ANNOTATIONS = ('category', 'instance', 'sample_annotation')
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
        ValueError: a table is damaged, refers to a record that another does not have, a calibration is singular, or
            images differ in size.
    """

    def __init__(self, root: str | os.PathLike, version: str) -> None:
        self.folder = Path(root) / version
        names = _TABLES if version.endswith('test') else _TABLES + _ANNOTATIONS
        tables = {name: self._read(name) for name in tqdm(names, desc=f'reading {self.folder}', unit='table')}
        self.scenes = _by_token(tables['scene'])
        self.samples = _by_token(tables['sample'])
        self._mounts = self._read_mounts(tables['sensor'], tables['calibrated_sensor'])
        self.files, self.key_files = self._choose_files(tables['sample_data'])
        self._poses = _by_token(tables['ego_pose'])
        self.annotations: dict[str, dict] = {}
        self.sample_annotations: dict[str, list[str]] = defaultdict(list)
        self.categories = [record['name'] for record in tables.get('category', ())]
        if 'sample_annotation' in tables:
            self._add_annotations(tables)
        self.image_size = self._image_size()

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
            ValueError: time goes backwards.
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
            files.append(before)
        return files[1:]

    def samples_of(self, scene: dict) -> list[dict]:
        """Samples of a scene from the first to the last.

        Raises:
            ValueError: time goes backwards, or a sample lacks a camera or the LiDAR.
        """
        samples, token = [], scene['first_sample_token']
        while token:
            sample = self._get(self.samples, token, 'sample', f'scene {scene["name"]}')
            if samples and sample['timestamp'] <= samples[-1]['timestamp']:
                raise ValueError(
                    f'{self.folder / "sample.json"}: record {token}: timestamp goes backwards: found '
                    f'{sample["timestamp"]}, after {samples[-1]["timestamp"]} of the sample before it in '
                    f'{scene["name"]}; expected times that increase; restore the original table'
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

    def _read(self, name: str) -> list[dict]:
        path = self.folder / f'{name}.json'
        try:
            records = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{path}: table not found; expected <root>/<version>/*.json as in the archives of nuScenes; check '
                '--root-path and --version'
            ) from None
        except ValueError as error:
            raise ValueError(f'{path}: not valid JSON ({error}); download the table again') from None
        if name in ('scene', 'sample', 'sample_data', 'ego_pose') and not records:
            raise ValueError(f'{path}: found no records; download the table again')
        return records

    def _read_mounts(self, sensors: list[dict], calibrations: list[dict]) -> dict[str, dict[str, Any]]:
        """Channel, pose and camera matrix of each ``calibrated_sensor`` of a camera or the LiDAR."""
        channels = {record['token']: record['channel'] for record in sensors}
        mounts = {}
        for record in calibrations:
            place = f'calibrated_sensor {record["token"]}'
            channel = self._get(channels, record['sensor_token'], 'sensor', place)
            if channel not in (*CAMERAS, LIDAR):
                continue
            intrinsic = np.array(record['camera_intrinsic'], np.float64)
            if channel != LIDAR and not (intrinsic.shape == (3, 3) and abs(np.linalg.det(intrinsic)) > 1e-6):
                raise ValueError(
                    f'{self.folder / "calibrated_sensor.json"}: record {record["token"]} ({channel}): found the '
                    f'singular camera_intrinsic {record["camera_intrinsic"]}, expected [[fx, 0, cx], [0, fy, cy], '
                    '[0, 0, 1]] in pixels; restore the original table'
                )
            pose = self._pose(record, 'calibrated_sensor')
            mounts[record['token']] = dict(channel=channel, intrinsic=intrinsic, pose=pose)
        return mounts

    def _choose_files(self, records: list[dict]) -> tuple[dict[str, dict], dict[str, dict[str, str]]]:
        files, key_files = {}, defaultdict(dict)
        for record in records:
            mount = self._mounts.get(record['calibrated_sensor_token'])
            if mount is None or (mount['channel'] == LIDAR and not record['is_key_frame']):
                continue
            files[record['token']] = record
            if record['is_key_frame']:
                key_files[record['sample_token']][mount['channel']] = record['token']
        return files, key_files

    def _add_annotations(self, tables: dict[str, list[dict]]) -> None:
        categories, instances = _by_token(tables['category']), _by_token(tables['instance'])
        for record in tables['sample_annotation']:
            place = f'sample_annotation {record["token"]}'
            instance = self._get(instances, record['instance_token'], 'instance', place)
            category = self._get(categories, instance['category_token'], 'category', place)
            self.annotations[record['token']] = {**record, 'category_name': category['name']}
            self.sample_annotations[record['sample_token']].append(record['token'])

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
        rotation = np.array(record['rotation'], np.float64)
        translation = np.array(record['translation'], np.float64)
        is_rotation = rotation.shape == (4,) and abs(np.linalg.norm(rotation) - 1) < _UNIT
        if not (is_rotation and translation.shape == (3,) and np.isfinite(translation).all()):
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
