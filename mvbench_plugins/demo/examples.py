"""A file to try the six-camera task with, rendered when it is asked for."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np

from mvbench_plugins.datasets.toy.driving_cameras import Camera
from mvbench_plugins.datasets.toy.driving_random import random_world
from mvbench_plugins.datasets.toy.driving_rig import CAMERAS
from mvbench_plugins.demo.archives import CALIBRATION

_SIZE = (320, 180)  # as ``tools/make_toy_data.py nuscenes`` renders by default: what toy models were trained on
_STREAM, _DURATION = (0, 1, 0), 4.5  # of its first validation scene
_MOMENT = 1.0  # seconds


def write_cameras_example(path: Path) -> None:
    """Writes a zip file with the toy world as the six cameras of its car see it, and their calibration."""
    world = random_world(np.random.default_rng(_STREAM), _DURATION)
    cameras = {}
    with zipfile.ZipFile(path, 'w') as archive:
        for mount in CAMERAS:
            picture, _, _ = Camera(mount, _SIZE).render(world, _MOMENT)
            name = f'{mount.channel.lower()}.jpg'
            archive.writestr(name, cv2.imencode('.jpg', picture)[1].tobytes())
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = mount.rotation, mount.translation
            cameras[mount.channel] = dict(
                image=name, intrinsics=mount.intrinsic(_SIZE).round(6).tolist(), cam2ego=pose.round(6).tolist()
            )
        rows = ',\n'.join(f'{json.dumps(camera)}: {json.dumps(entry)}' for camera, entry in cameras.items())
        archive.writestr(CALIBRATION, f'{{"cameras": {{\n{rows}\n}}}}\n')  # to be read by people, too
