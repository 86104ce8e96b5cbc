"""Writes the driving world as SemanticKITTI: LiDAR scans with a class and an instance for every point, and poses."""

import os
import pickle
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mvbench_plugins.datasets.toy.driving_lidar import Sweep, lidar_sweep
from mvbench_plugins.datasets.toy.driving_random import random_world
from mvbench_plugins.datasets.toy.driving_rig import LIDAR
from mvbench_plugins.datasets.toy.driving_world import Cuboid, Drive, DrivingWorld
from mvbench_plugins.datasets.toy.output import begin_toy_folder

#: Numbers of sequences. First the official ones of each split, then such as the real data set does not have; 11 to 21,
#: the official test split, stay free.
TRAIN_SEQUENCES = tuple(f'{number:02d}' for number in (*range(8), 9, 10, *range(22, 70)))
VAL_SEQUENCES = tuple(f'{number:02d}' for number in (8, *range(70, 100)))
SCAN_INTERVAL = 0.5  # seconds from one scan to the next: that between key frames of the toy nuScenes
MIN_AZIMUTHS = 16
#: Raw SemanticKITTI labels of road, sidewalk and terrain.
GROUND_LABELS = (40, 48, 72)
#: Of each kind that stands and that moves. SemanticKITTI counts trailers and construction vehicles to other vehicles,
#: and traffic cones, as other objects, to what is not learned. The riders of the toy world are not to be seen: a
#: bicycle that moves remains one.
KIND_LABELS = {
    'car': (10, 252),
    'truck': (18, 258),
    'trailer': (20, 259),
    'bus': (13, 257),
    'construction_vehicle': (20, 259),
    'bicycle': (11, 11),
    'motorcycle': (15, 15),
    'pedestrian': (30, 254),
    'traffic_cone': (99, 99),
    'barrier': (51, 51),
}
_INFOS = ('semantickitti_infos_train.pkl', 'semantickitti_infos_val.pkl')  # as mmdet3d's configs call them
# From KITTI's velodyne (x ahead, y to the left) to the toy LiDAR (x to the right, y ahead), and to KITTI's camera (x to
# the right, y down, z ahead).
_TO_TOY = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
_TO_CAMERA = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
_PROJECTION = np.array([[720, 0, 620, 0], [0, 720, 188, 0], [0, 0, 1, 0]])  # of a camera such as KITTI's
_CONTENT = 1  # raise it when equal arguments give other files


def write_semantic_kitti(
    out: str | os.PathLike,
    *,
    seed: int = 0,
    num_train: int = 30,
    num_val: int = 6,
    scans: int = 10,
    azimuths: int = 240,
) -> bool:
    """Writes ``sequences/XX/{velodyne,labels}/*``, ``sequences/XX/{calib,poses,times}.txt`` and mmdet3d's info files.

    Sequence n of a split shows the same drive as scene n of that split in a toy nuScenes with the same ``seed`` and
    with ``scans`` key frames. mmdet3d's converter lists the scans of the real data set without a look at the files,
    hence the info files written here.
    Equal arguments give equal bytes, and a sequence depends on its number, ``seed`` and the last two arguments only. A
    complete set of the same arguments is left as it is, an unfinished one is made anew.

    Args:
        out: Folder of the data set: new, empty, or the result of an earlier call.
        seed: Seed of the world.
        num_train: Number of training sequences.
        num_val: Number of validation sequences.
        scans: Number of scans of a sequence, half a second apart.
        azimuths: Number of directions that each of the 32 beams of the LiDAR is cast in during a turn.

    Returns:
        Whether the set was written; False if it was there.

    Raises:
        ValueError: If a number is too small, or there are no names for so many sequences.
        NotADirectoryError: If ``out`` is a file.
        FileExistsError: If the folder holds something else.
    """
    numbers = {'seed': (seed, 0), 'num_train': (num_train, 1), 'num_val': (num_val, 1)}
    numbers |= {'scans': (scans, 1), 'azimuths': (azimuths, MIN_AZIMUTHS)}
    for name, number, names in (('num_train', num_train, TRAIN_SEQUENCES), ('num_val', num_val, VAL_SEQUENCES)):
        if number > len(names):
            raise ValueError(f'{name}: found {number}, expected at most {len(names)} (sequences of two digits)')
    folder = begin_toy_folder(out, 'semantickitti', _CONTENT, numbers, parts=('sequences',), files=_INFOS)
    if folder is None:
        return False
    splits = (TRAIN_SEQUENCES[:num_train], VAL_SEQUENCES[:num_val])
    with tqdm(total=(num_train + num_val) * scans, desc=f'toy SemanticKITTI -> {out}', unit='scan') as progress:
        for stream, (infos, sequences) in enumerate(zip(_INFOS, splits, strict=True)):
            for index, sequence in enumerate(sequences):
                # The streams of the toy nuScenes, hence its worlds.
                rng = np.random.default_rng([seed, stream, index])
                world = random_world(rng, (scans - 1) * SCAN_INTERVAL)
                _write_sequence(folder.root / 'sequences' / sequence, world, rng, scans, azimuths, progress)
            entries = [scan_info(sequence, scan) for sequence in sequences for scan in range(scans)]
            content = pickle.dumps({'metainfo': {'DATASET': 'SemanticKITTI'}, 'data_list': entries})
            (folder.root / infos).write_bytes(content)
    folder.finish()
    return True


def kitti_points(sweep: Sweep) -> np.ndarray:
    """Points of a sweep as KITTI has them, ``(n, 4)``, float32.

    x, y, z in metres in the frame of the velodyne (x ahead, y to the left, z up), and the remission from 0 to 1.
    """
    return np.column_stack([sweep.points[:, :3] @ _TO_TOY.astype(np.float32), sweep.points[:, 3] / np.float32(255)])


def kitti_labels(cuboids: tuple[Cuboid, ...], sweep: Sweep) -> np.ndarray:
    """Labels of all points, ``(n,)``, uint32: class in the lower, instance in the upper 16 bits.

    Every cuboid is an instance, counted from 1; the ground is 0.
    """
    classes = np.array([*GROUND_LABELS, *(KIND_LABELS[each.kind.name][each.speed > 0] for each in cuboids)], np.uint32)
    of_points = classes[np.where(sweep.instances < 0, sweep.ground, sweep.instances + len(GROUND_LABELS))]
    return of_points | (sweep.instances + 1).astype(np.uint32) << 16


def velodyne_pose(drive: Drive, t: float) -> np.ndarray:
    """Where the velodyne is at time ``t`` in seconds: ``world = pose @ own``, ``(4, 4)``."""
    position, heading = drive.pose(t)
    cos, sin = np.cos(heading), np.sin(heading)
    car, mount = np.eye(4), np.eye(4)
    car[:2, :2], car[:2, 3] = [[cos, -sin], [sin, cos]], position
    mount[:3, :3], mount[:3, 3] = LIDAR.rotation @ _TO_TOY, LIDAR.translation
    return car @ mount


def scan_info(sequence: str, scan: int) -> dict:
    """Entry of a scan in mmdet3d's info files."""
    return {
        'lidar_points': {'lidar_path': f'sequences/{sequence}/velodyne/{scan:06d}.bin', 'num_pts_feats': 4},
        'pts_semantic_mask_path': f'sequences/{sequence}/labels/{scan:06d}.label',
        'sample_id': f'{sequence}{scan:06d}',
    }


def _write_sequence(
    folder: Path, world: DrivingWorld, rng: np.random.Generator, scans: int, azimuths: int, progress: tqdm
) -> None:
    """Writes the files of one sequence, with noise from a generator."""
    for part in ('velodyne', 'labels'):
        (folder / part).mkdir(parents=True)
    times = np.arange(scans) * SCAN_INTERVAL
    for scan, t in enumerate(times):
        sweep = lidar_sweep(world, t, rng, azimuths)
        kitti_points(sweep).tofile(folder / 'velodyne' / f'{scan:06d}.bin')
        kitti_labels(world.cuboids, sweep).tofile(folder / 'labels' / f'{scan:06d}.label')
        progress.update()
    # KITTI gives poses of its left camera, in the frame of the first. Here the cameras, which take no pictures, all sit
    # in the LiDAR.
    to_velodyne = np.linalg.inv(_TO_CAMERA)
    to_start = _TO_CAMERA @ np.linalg.inv(velodyne_pose(world.drive, 0.0))
    poses = [to_start @ velodyne_pose(world.drive, t) @ to_velodyne for t in times]
    lines = {f'P{camera}': _PROJECTION for camera in range(4)} | {'Tr': _TO_CAMERA[:3]}
    calibration = ''.join(f'{name}: {_numbers(matrix)}\n' for name, matrix in lines.items())
    (folder / 'calib.txt').write_text(calibration, encoding='utf-8')
    (folder / 'poses.txt').write_text(''.join(f'{_numbers(pose[:3])}\n' for pose in poses), encoding='utf-8')
    (folder / 'times.txt').write_text(''.join(f'{t:.6e}\n' for t in times), encoding='utf-8')


def _numbers(matrix: np.ndarray) -> str:
    """A matrix in one line, row by row."""
    return ' '.join(f'{value:.9e}' for value in np.round(matrix.ravel(), 9) + 0.0)  # no noise, no minus before a zero
