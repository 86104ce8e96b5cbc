"""A folder with the pictures of six cameras at one time, and the calibration file that belongs to it.

``calibration.json``::

    {
      "timestamp": 1532402927.65,       seconds; a single frame needs none
      "ego2global": [[...], ...],       pose of the vehicle at that time; a single frame needs none
      "lidar2ego": [[...], ...],        optional: the frame that boxes are told in
      "cameras": {
        "CAM_FRONT": {
          "image": "front.jpg",         file, relative to the folder
          "intrinsics": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]],    in pixels of that file
          "cam2ego": [[...], ...],      or "cam2lidar"
          "timestamp": 1532402927.61,   optional: when this camera fired
          "ego2global": [[...], ...]    optional: pose of the vehicle at that time
        },
        "CAM_FRONT_RIGHT": {...}, "CAM_FRONT_LEFT": {...}, "CAM_BACK": {...}, "CAM_BACK_LEFT": {...},
        "CAM_BACK_RIGHT": {...}
      }
    }

Poses are rigid 4 x 4 matrices in metres that map points of the first named frame to the second. Axes as in nuScenes:
camera x right, y down, z ahead; vehicle ("ego") x ahead, y left, z up, on the ground below the rear axle; LiDAR x
right, y ahead, z up. ``lidar2ego`` defaults to where the LiDAR of nuScenes sits, which published models were trained
with: a vehicle without LiDAR needs none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mvbench_plugins.sparsebev.frames import CAMERAS, CameraSet, are_intrinsics, are_poses, as_numbers

CALIBRATION = 'calibration.json'
#: LIDAR_TOP of the nuScenes cars, level: 0.94 m before the rear axle, 1.84 m above the ground.
LIDAR2EGO = ((0.0, 1.0, 0.0, 0.94), (-1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.84), (0.0, 0.0, 0.0, 1.0))
_LEAST_COSINE = 0.25  # between where a camera looks and where its name says: about 75 degrees
#: Where the cameras of nuScenes look, degrees to the left of straight ahead.
_HEADINGS = dict(zip(CAMERAS, (0, -55, 55, 180, 110, -110), strict=True))


@dataclass(frozen=True, eq=False)
class CalibratedFrame:
    """What a folder holds.

    Attributes:
        folder: the folder.
        cameras: pictures, times, intrinsics and poses of the cameras.
        lidar2global: pose of the LiDAR, in whose coordinates boxes are, float64 ``[4, 4]``.
        timestamp: seconds; 0 if the file has none.
        size: height and width of the pictures in pixels.
        missing: names of the fields that only a single frame can do without, and that the file lacks.
    """

    folder: Path
    cameras: CameraSet
    lidar2global: np.ndarray
    timestamp: float
    size: tuple[int, int]
    missing: tuple[str, ...]


def read_calibrated_frame(folder: Path) -> CalibratedFrame:
    """Reads and checks the calibration file of a folder, and that its pictures are there and of one size.

    Raises:
        FileNotFoundError: the calibration file or a picture is missing.
        ValueError: a field is missing or wrong.
    """
    path = folder / CALIBRATION
    content = _load(path)
    cameras = _field(content, 'cameras', path, 'an object with an entry for each camera', dict)
    absent = [camera for camera in CAMERAS if camera not in cameras]
    if absent:
        raise ValueError(
            f'{path}: cameras: found {", ".join(cameras) or "none"}, but not {", ".join(absent)}; expected all of '
            f'{", ".join(CAMERAS)}: the models see all six views at once'
        )
    time = _time(content, path, 'timestamp', 0.0)
    pose = _pose(content, 'ego2global', path, default=np.eye(4))
    lidar2ego = _pose(content, 'lidar2ego', path, default=np.array(LIDAR2EGO))
    paths, times, intrinsics, poses = [], [], [], []
    sizes: list[tuple[int, int]] = []
    for camera in CAMERAS:
        entry = _field(cameras, camera, path, 'an object', dict)
        place = f'cameras.{camera}.'
        image = folder / _field(entry, 'image', path, 'the name of a file in the folder', str, place)
        sizes.append(_check_size(image, sizes, path, place))
        cam2ego = _cam2ego(entry, lidar2ego, path, place)
        _check_heading(camera, cam2ego, path, place)
        paths.append(str(image))
        times.append(_time(entry, path, 'timestamp', time, place))
        intrinsics.append(_intrinsics(entry, path, place))
        poses.append(_pose(entry, 'ego2global', path, place, default=pose) @ cam2ego)
    missing = tuple(key for key in ('timestamp', 'ego2global') if key not in content)
    frame = CameraSet(tuple(paths), np.array(times), np.array(intrinsics), np.array(poses))
    return CalibratedFrame(folder, frame, pose @ lidar2ego, time, sizes[0], missing)


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist: expected a folder with the pictures of {len(CAMERAS)} cameras and {CALIBRATION}, '
            f'or a folder of such folders; the documentation of {__name__} shows the file'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: not a JSON file: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: found a JSON {type(content).__name__}, expected an object with "cameras"')
    return content


def _field(content: dict, key: str, path: Path, expected: str, kind: type | tuple, place: str = '') -> Any:
    if key not in content:
        raise ValueError(
            f'{path}: {place}{key} is missing: expected {expected}; found {", ".join(content) or "nothing"}'
        )
    value = content[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f'{path}: {place}{key}: found {value!r}, expected {expected}')
    return value


def _time(content: dict, path: Path, key: str, default: float, place: str = '') -> float:
    if key not in content:
        return default
    # By way of text: integers that no float can hold are infinite then.
    value = float(repr(_field(content, key, path, 'seconds', (int, float), place)))
    # Times in micro- or nanoseconds would pass for moments that lie months apart.
    if not 0 <= value < 1e11:
        raise ValueError(f'{path}: {place}{key}: found {value:g}, expected seconds (nuScenes counts microseconds)')
    return value


def _pose(content: dict, key: str, path: Path, place: str = '', default: np.ndarray | None = None) -> np.ndarray:
    if key not in content and default is not None:
        return default
    expected = 'a rigid pose [[R, t], [0, 0, 0, 1]] of 4 x 4 numbers, in metres, with a rotation R'
    found = _field(content, key, path, expected, list, place)
    pose = as_numbers(found, (4, 4))
    if pose is None:
        raise ValueError(f'{path}: {place}{key}: found {found}, expected {expected}')
    if not are_poses(pose):
        raise ValueError(
            f'{path}: {place}{key}: found {found}, which is singular, a reflection or no pose; expected {expected}'
        )
    return pose


def _cam2ego(entry: dict, lidar2ego: np.ndarray, path: Path, place: str) -> np.ndarray:
    given = [key for key in ('cam2ego', 'cam2lidar') if key in entry]
    if len(given) != 1:
        raise ValueError(
            f'{path}: {place.rstrip(".")}: found {" and ".join(given) or "neither cam2ego nor cam2lidar"}, expected '
            'one of cam2ego and cam2lidar'
        )
    pose = _pose(entry, given[0], path, place)
    return pose if given[0] == 'cam2ego' else lidar2ego @ pose


def _intrinsics(entry: dict, path: Path, place: str) -> np.ndarray:
    expected = '[[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, fx and fy above 0'
    found = _field(entry, 'intrinsics', path, expected, list, place)
    matrix = as_numbers(found, (3, 3))
    if matrix is None or not are_intrinsics(matrix):
        raise ValueError(f'{path}: {place}intrinsics: found {found}, expected {expected}')
    return matrix


def _check_heading(camera: str, cam2ego: np.ndarray, path: Path, place: str) -> None:
    """Refuses a camera that looks elsewhere than its name says: a swapped camera, or an inverted matrix."""
    heading = np.radians(_HEADINGS[camera])
    if cam2ego[:2, 2] @ (np.cos(heading), np.sin(heading)) < _LEAST_COSINE:
        found = np.degrees(np.arctan2(cam2ego[1, 2], cam2ego[0, 2]))
        raise ValueError(
            f'{path}: {place.rstrip(".")}: by its pose it looks {found:.0f} degrees to the left of straight ahead, '
            f'expected about {_HEADINGS[camera]}. Are cameras exchanged, or is the matrix inverted (it must map points '
            'of the camera to the vehicle), or are the axes not those of nuScenes?'
        )


def _check_size(image: Path, others: Sequence[tuple[int, int]], path: Path, place: str) -> tuple[int, int]:
    """Height and width of a picture, from its header; those of the other cameras are the same."""
    if not image.is_file():
        raise FileNotFoundError(f'{path}: {place}image: {image} does not exist')
    try:
        with Image.open(image) as picture:
            found = picture.size[::-1]
    except Exception as error:  # a damaged picture raises nearly anything
        raise ValueError(f'{path}: {place}image: {image} is not a picture: {error}') from error
    if others and found != others[0]:
        raise ValueError(
            f'{path}: {place}image: {image} is {found[1]} x {found[0]} pixels, expected {others[0][1]} x '
            f'{others[0][0]} as the other cameras; resize it, and multiply the first two rows of its intrinsics alike'
        )
    return found
