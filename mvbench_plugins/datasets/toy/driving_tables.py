"""The thirteen tables of a nuScenes database, filled from the driving world."""

import hashlib
import json
from pathlib import Path

import numpy as np

from mvbench_plugins.datasets.toy.driving_kinds import ATTRIBUTES, KINDS
from mvbench_plugins.datasets.toy.driving_rig import LIDAR, CameraMount, Mount
from mvbench_plugins.datasets.toy.driving_world import DrivingWorld

NAMES = (
    'attribute',
    'calibrated_sensor',
    'category',
    'ego_pose',
    'instance',
    'log',
    'map',
    'sample',
    'sample_annotation',
    'sample_data',
    'scene',
    'sensor',
    'visibility',
)
VISIBILITIES = ('v0-40', 'v40-60', 'v60-80', 'v80-100')  # per cent; their tokens are 1 to 4


class Tables:
    """Records of all tables. Tokens follow from the seed and from what they stand for, so that equal sets are equal.

    Args:
        seed: Seed of the world.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._records: dict[str, list[dict]] = {name: [] for name in NAMES}

    def write(self, folder: Path) -> None:
        """Writes ``<table>.json`` for each table."""
        for name, records in self._records.items():
            (folder / f'{name}.json').write_text(json.dumps(records, separators=(',', ':')), encoding='utf-8')

    def add_vocabulary(self) -> None:
        """Adds all categories, attributes and visibilities."""
        for kind in KINDS:
            self._add('category', kind.name, name=kind.category, description=f'toy {kind.name}')
        for name in ATTRIBUTES:
            self._add('attribute', name, name=name, description='')
        for index, level in enumerate(VISIBILITIES):
            description = f'visibility of whole object is {level.removeprefix("v")}%'
            self._records['visibility'].append({'token': str(index + 1), 'level': level, 'description': description})

    def add_sensor(self, mount: Mount, size: tuple[int, int]) -> None:
        """Adds a sensor and its calibration, for images of ``size`` (width, height) if it is a camera."""
        intrinsic = mount.intrinsic(size).tolist() if isinstance(mount, CameraMount) else []
        self._add('sensor', mount.channel, channel=mount.channel, modality='camera' if intrinsic else 'lidar')
        self._add(
            'calibrated_sensor',
            mount.channel,
            sensor_token=self._token('sensor', mount.channel),
            translation=list(mount.translation),
            rotation=(np.array(mount.quaternion) / np.linalg.norm(mount.quaternion)).tolist(),
            camera_intrinsic=intrinsic,
        )

    def add_log(self, map_file: str) -> None:
        """Adds the one log and the one map."""
        log = {'logfile': 'toy', 'vehicle': 'toy', 'date_captured': '2026-01-01', 'location': 'singapore-onenorth'}
        self._add('log', **log)
        self._add('map', log_tokens=[self._token('log')], category='semantic_prior', filename=map_file)

    def add_scene(self, scene: str, timestamps: list[int]) -> None:
        """Adds a scene and its key frames, of which the time stamps in microseconds are given."""
        self._add(
            'scene',
            scene,
            log_token=self._token('log'),
            nbr_samples=len(timestamps),
            first_sample_token=self._token('sample', scene, 0),
            last_sample_token=self._token('sample', scene, len(timestamps) - 1),
            name=scene,
            description='toy world of cuboids',
        )
        for key, timestamp in enumerate(timestamps):
            links = self._links('sample', scene, number=key, is_last=key == len(timestamps) - 1)
            self._add('sample', scene, key, timestamp=timestamp, scene_token=self._token('scene', scene), **links)

    def add_sample_data(
        self,
        scene: str,
        channel: str,
        frame: int,
        *,
        is_last: bool,
        key: int,
        is_key_frame: bool,
        timestamp: int,
        pose: tuple[np.ndarray, float],
        filename: str,
        size: tuple[int, int],
    ) -> None:
        """Adds a file of a sensor and the pose of the car when it was taken.

        Args:
            scene: Name of the scene.
            channel: Name of the sensor.
            frame: Number of the frame in the scene.
            is_last: Whether it is the last of the scene.
            key: Number of the key frame that it belongs to.
            is_key_frame: Whether it is that key frame.
            timestamp: In microseconds.
            pose: Position ``(x, y)`` of the car in metres and its heading in radians.
            filename: Relative to the folder of the data set.
            size: ``(width, height)`` of an image in pixels, zeros for a point cloud.
        """
        (x, y), heading = pose
        rotation, translation = yaw_quaternion(heading), [float(x), float(y), 0.0]
        self._add('ego_pose', scene, channel, frame, timestamp=timestamp, rotation=rotation, translation=translation)
        self._add(
            'sample_data',
            scene,
            channel,
            frame,
            sample_token=self._token('sample', scene, key),
            ego_pose_token=self._token('ego_pose', scene, channel, frame),
            calibrated_sensor_token=self._token('calibrated_sensor', channel),
            timestamp=timestamp,
            fileformat='pcd' if channel == LIDAR.channel else 'jpg',
            is_key_frame=is_key_frame,
            height=size[1],
            width=size[0],
            filename=filename,
            **self._links('sample_data', scene, channel, number=frame, is_last=is_last),
        )

    def add_instances(self, scene: str, world: DrivingWorld, key_frames: int) -> None:
        """Adds the cuboids of a world, which :meth:`add_annotations` annotates in each of its key frames."""
        for index, cuboid in enumerate(world.cuboids):
            self._add(
                'instance',
                scene,
                index,
                category_token=self._token('category', cuboid.kind.name),
                nbr_annotations=key_frames,
                first_annotation_token=self._token('sample_annotation', scene, index, 0),
                last_annotation_token=self._token('sample_annotation', scene, index, key_frames - 1),
            )

    def add_annotations(
        self,
        scene: str,
        key: int,
        world: DrivingWorld,
        seconds: float,
        counts: np.ndarray,
        shares: np.ndarray,
        *,
        is_last: bool,
    ) -> None:
        """Adds the boxes of a key frame.

        Args:
            scene: Name of the scene.
            key: Number of the key frame.
            world: The world of the scene.
            seconds: Time of the key frame since the start of the scene.
            counts: Number of LiDAR points in each box.
            shares: Share of each cuboid that the cameras see, from 0 to 1.
            is_last: Whether it is the last key frame of the scene.
        """
        levels = np.digitize(shares, (0.4, 0.6, 0.8)) + 1
        for index, cuboid in enumerate(world.cuboids):
            (x, y), (length, width, height) = cuboid.middle(seconds), cuboid.size
            attribute = cuboid.kind.attribute(cuboid.speed > 0)
            self._add(
                'sample_annotation',
                scene,
                index,
                key,
                sample_token=self._token('sample', scene, key),
                instance_token=self._token('instance', scene, index),
                visibility_token=str(levels[index]),
                attribute_tokens=[self._token('attribute', attribute)] if attribute else [],
                translation=[float(x), float(y), height / 2],
                size=[width, length, height],
                rotation=yaw_quaternion(cuboid.yaw),
                num_lidar_pts=int(counts[index]),
                num_radar_pts=0,
                **self._links('sample_annotation', scene, index, number=key, is_last=is_last),
            )

    def _add(self, table: str, *key: str | int, **fields: object) -> None:
        self._records[table].append({'token': self._token(table, *key), **fields})

    def _token(self, *key: str | int) -> str:
        return hashlib.md5(json.dumps([self._seed, *key]).encode()).hexdigest()

    def _links(self, table: str, *key: str | int, number: int, is_last: bool) -> dict[str, str]:
        """Fields that lead to the neighbours of record ``number`` of a chain, empty at its ends."""
        before = self._token(table, *key, number - 1) if number else ''
        return {'prev': before, 'next': '' if is_last else self._token(table, *key, number + 1)}


def yaw_quaternion(yaw: float) -> list[float]:
    """Rotation about the upright axis as ``[w, x, y, z]``; ``yaw`` in radians, counter-clockwise."""
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]
