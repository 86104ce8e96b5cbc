"""Writes the driving world as a nuScenes database: tables, pictures of six cameras and LiDAR sweeps."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mvbench_plugins.datasets.toy.driving_cameras import Camera
from mvbench_plugins.datasets.toy.driving_lidar import lidar_sweep, points_in_boxes
from mvbench_plugins.datasets.toy.driving_random import random_world
from mvbench_plugins.datasets.toy.driving_rig import CAMERAS, LIDAR, CameraMount, Mount
from mvbench_plugins.datasets.toy.driving_tables import Tables
from mvbench_plugins.datasets.toy.driving_world import DrivingWorld
from mvbench_plugins.datasets.toy.output import begin_toy_folder, write_image

VERSION = 'v1.0-trainval'
#: Names that the official devkit counts to the training and to the validation split.
TRAIN_SCENES = tuple(f'scene-{number:04d}' for number in (*range(41, 77), *range(224, 265), *range(410, 460)))
VAL_SCENES = tuple(f'scene-{number:04d}' for number in (*range(92, 111), *range(552, 566), *range(904, 918)))
KEY_INTERVAL = 0.5  # seconds from one key frame to the next
MIN_WIDTH, MIN_HEIGHT = 64, 36
MIN_AZIMUTHS = 16
MAP_SIDE = 400  # metres: what the map covers
_FIRST_TIME = 1_532_402_900_000_000  # of the first scene, in microseconds
_BETWEEN_SCENES = 60_000_000  # from the start of one scene to that of the next in number, in microseconds
_CONTENT = 1  # raise it when equal arguments give other files


@dataclass(frozen=True)
class Recording:
    """How scenes are recorded.

    Attributes:
        cameras: The cameras.
        key_frames: Number of annotated frames of a scene.
        sweeps: Number of frames without annotations between two of them.
        azimuths: Number of directions in a turn of the LiDAR.
    """

    cameras: Sequence[Camera]
    key_frames: int
    sweeps: int
    azimuths: int

    @property
    def frames(self) -> int:
        """Number of frames of a scene, with and without annotations."""
        return (self.key_frames - 1) * (self.sweeps + 1) + 1

    def seconds(self, frame: int) -> float:
        """Time of a frame since the start of the scene."""
        return frame * KEY_INTERVAL / (self.sweeps + 1)

    def random_world(self, rng: np.random.Generator) -> DrivingWorld:
        """Draws a world for a scene of this length."""
        return random_world(rng, self.seconds(self.frames - 1))


def write_nuscenes(
    out: str | os.PathLike,
    *,
    seed: int = 0,
    num_train: int = 30,
    num_val: int = 6,
    size: tuple[int, int] = (320, 180),
    key_frames: int = 10,
    sweeps: int = 1,
    azimuths: int = 240,
) -> bool:
    """Writes ``v1.0-trainval/*.json``, ``maps/``, ``samples/<channel>/`` and ``sweeps/<channel>/``.

    All sensors fire at each frame, cameras a few hundredths of a second before the LiDAR. Every cuboid of a scene is
    annotated in every key frame; ``num_lidar_pts`` tells what the LiDAR sees of it, the visibility what the cameras
    do. Equal arguments give equal bytes, and a scene depends on its number, ``seed`` and the last four arguments only.
    A complete set of the same arguments is left as it is, an unfinished one is made anew.

    Args:
        out: Folder of the data set: new, empty, or the result of an earlier call.
        seed: Seed of the world.
        num_train: Number of training scenes.
        num_val: Number of validation scenes.
        size: ``(width, height)`` of the images in pixels.
        key_frames: Number of key frames of a scene, half a second apart.
        sweeps: Number of frames between two key frames.
        azimuths: Number of directions that each of the 32 beams of the LiDAR is cast in during a turn.

    Returns:
        Whether the set was written; False if it was there.

    Raises:
        ValueError: If a number is too small, or there are no names for so many scenes.
        NotADirectoryError: If ``out`` is a file.
        FileExistsError: If the folder holds something else.
    """
    numbers = {'seed': (seed, 0), 'num_train': (num_train, 1), 'num_val': (num_val, 1)}
    numbers |= {'key_frames': (key_frames, 2), 'sweeps': (sweeps, 0), 'azimuths': (azimuths, MIN_AZIMUTHS)}
    for name, number, names in (('num_train', num_train, TRAIN_SCENES), ('num_val', num_val, VAL_SCENES)):
        if number > len(names):
            raise ValueError(f'{name}: found {number}, expected at most {len(names)} (names of official scenes)')
    folder = begin_toy_folder(
        out,
        'nuscenes',
        _CONTENT,
        numbers,
        size=size,
        least_size=(MIN_WIDTH, MIN_HEIGHT),
        parts=(VERSION, 'maps', 'samples', 'sweeps'),
    )
    if folder is None:
        return False
    recording = Recording([Camera(mount, size) for mount in CAMERAS], key_frames, sweeps, azimuths)
    tables = Tables(seed)
    _write_common(folder.root, tables, size)
    with tqdm(total=(num_train + num_val) * recording.frames, desc=f'toy nuScenes -> {out}', unit='frame') as progress:
        for stream, names in enumerate((TRAIN_SCENES[:num_train], VAL_SCENES[:num_val])):
            for index, name in enumerate(names):
                # A stream of its own for each scene: the length of one split changes no other scene.
                rng = np.random.default_rng([seed, stream, index])
                _SceneWriter(folder.root, tables, recording, name).write(recording.random_world(rng), rng, progress)
    tables.write(folder.root / VERSION)
    folder.finish()
    return True


def _write_common(root: Path, tables: Tables, size: tuple[int, int]) -> None:
    """Writes the folders of all sensors, the blank map and what all scenes share in the tables."""
    tables.add_vocabulary()
    for mount in (*CAMERAS, LIDAR):
        for part in ('samples', 'sweeps'):
            (root / part / mount.channel).mkdir()
        tables.add_sensor(mount, size)
    # The devkit counts ten pixels a metre, and takes bright ones for streets.
    write_image(root / 'maps' / 'toy.png', np.full((MAP_SIDE * 10, MAP_SIDE * 10), 255, np.uint8))
    tables.add_log('maps/toy.png')


class _SceneWriter:
    """Writes one scene: its files at once, its records into the tables.

    Args:
        root: Folder of the data set.
        tables: Tables of the data set.
        recording: How it is recorded.
        name: Name of the scene.
    """

    def __init__(self, root: Path, tables: Tables, recording: Recording, name: str) -> None:
        self.root = root
        self.tables = tables
        self.recording = recording
        self.name = name
        self.start = _FIRST_TIME + int(name.removeprefix('scene-')) * _BETWEEN_SCENES

    def write(self, world: DrivingWorld, rng: np.random.Generator, progress: tqdm) -> None:
        """Writes all frames of a world, with noise from a generator."""
        recording, last_key = self.recording, self.recording.key_frames - 1
        key_times = [recording.seconds(key * (recording.sweeps + 1)) for key in range(last_key + 1)]
        self.tables.add_scene(self.name, [self._timestamp(t) for t in key_times])
        self.tables.add_instances(self.name, world, recording.key_frames)
        for frame in range(recording.frames):
            t = recording.seconds(frame)
            sweep = lidar_sweep(world, t, rng, recording.azimuths)
            sweep.points.tofile(self._add_file(LIDAR, world, frame))
            pixels = np.zeros((2, len(world.cuboids)), int)
            for camera in recording.cameras:
                image, _, of_camera = camera.render(world, t + camera.mount.delay)
                write_image(self._add_file(camera.mount, world, frame, camera.size), image)
                pixels += of_camera
            key, since_key = divmod(frame, recording.sweeps + 1)
            if since_key == 0:
                counts = points_in_boxes(world, t, sweep.points)
                shares = pixels[0] / np.maximum(pixels[1], 1)
                self.tables.add_annotations(self.name, key, world, t, counts, shares, is_last=key == last_key)
            progress.update()

    def _timestamp(self, seconds: float) -> int:
        """Microseconds of a time since the start of the scene."""
        return self.start + round(seconds * 1e6)

    def _add_file(self, mount: Mount, world: DrivingWorld, frame: int, size: tuple[int, int] = (0, 0)) -> Path:
        """Adds the records of what a sensor takes at a frame; returns the path at which it belongs."""
        key, since_key = divmod(frame, self.recording.sweeps + 1)
        seconds = self.recording.seconds(frame) + mount.delay
        timestamp = self._timestamp(seconds)
        suffix = 'jpg' if isinstance(mount, CameraMount) else 'pcd.bin'
        part = 'sweeps' if since_key else 'samples'
        filename = f'{part}/{mount.channel}/toy-{self.name}__{mount.channel}__{timestamp}.{suffix}'
        self.tables.add_sample_data(
            self.name,
            mount.channel,
            frame,
            is_last=frame == self.recording.frames - 1,
            key=key + bool(since_key),  # what is taken between two key frames belongs to the later one
            is_key_frame=not since_key,
            timestamp=timestamp,
            pose=world.drive.pose(seconds),
            filename=filename,
            size=size,
        )
        return self.root / filename
