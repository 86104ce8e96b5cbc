"""Runs of all plugins as they lie in a work_dirs folder, with small networks and drawn weights; and files to upload."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

CAMERAS = {'FRONT': 0, 'FRONT_RIGHT': -55, 'FRONT_LEFT': 55, 'BACK': 180, 'BACK_LEFT': 110, 'BACK_RIGHT': -110}


def write_run(config_dir: Path, work_dirs: Path, plugin: str, name: str, options: dict, classes: tuple = ()) -> Path:
    """Writes ``NAME/NAME.py`` and ``NAME/epoch_1.pth``, as the runner does; returns the checkpoint."""
    cfg = Config.fromfile(config_dir / plugin / f'{name}.py')
    cfg.merge_from_dict(options)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    if plugin == 'deqdet':
        _keep_boxes(model)
    folder = work_dirs / name
    folder.mkdir(parents=True)
    cfg.dump(folder / f'{name}.py')
    meta = dict(dataset_meta=dict(classes=classes or cfg.get('classes') or cfg.get('class_names')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'epoch_1.pth')
    return folder / 'epoch_1.pth'


def write_deqdet_run(config_dir: Path, work_dirs: Path) -> Path:
    """The detector of the quick start, untrained."""
    return write_run(config_dir, work_dirs, 'deqdet', 'deqdet_r18_toy', {})


def _keep_boxes(model: nn.Module) -> None:
    """Boxes stay those of the start, as large as the picture: drawn weights would move them out of sight."""
    model.rpn_head.init_weights()
    for name, parameter in model.named_parameters():
        if '.fc_reg.' in name:
            nn.init.zeros_(parameter)


def write_picture(path: Path, width: int = 96, height: int = 64) -> Path:
    """A red square on grey."""
    picture = np.full((height, width, 3), 90, np.uint8)
    picture[20:44, 30:54] = (40, 40, 220)
    cv2.imwrite(str(path), picture)
    return path


def write_video(path: Path, frames: int = 12, width: int = 96, height: int = 64) -> Path:
    """A red square that goes to the right, at 10 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, (width, height))
    for number in range(frames):
        picture = np.full((height, width, 3), 90, np.uint8)
        picture[20:44, 20 + number : 44 + number] = (40, 40, 220)
        writer.write(picture)
    writer.release()
    return path


def write_sweep(path: Path, values: int) -> Path:
    """500 points around the LiDAR, of 4 (x, y, z, intensity) or 5 numbers."""
    points = np.random.default_rng(0).random((500, values)) * ([20, 20, 4, 1, 31][:values])
    (points - [10, 10, 3, 0, 0][:values]).astype(np.float32).tofile(path)
    return path


def calibration(image: Callable[[str], str] = '{}.jpg'.format) -> dict:
    """Six level cameras that look where those of nuScenes look."""
    cameras = {}
    for name, degrees in CAMERAS.items():
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        pose = [[sin, 0, cos, cos], [-cos, 0, sin, sin], [0, -1, 0, 1.5], [0, 0, 0, 1]]
        intrinsics = [[90, 0, 64], [0, 90, 36], [0, 0, 1]]
        cameras[f'CAM_{name}'] = dict(image=image(name), intrinsics=intrinsics, cam2ego=pose)
    return dict(cameras=cameras)


def write_cameras(path: Path, frames: int = 1) -> Path:
    """A zip file with a folder with one frame, or with a drive of several, half a second apart."""
    with zipfile.ZipFile(path, 'w') as archive:
        picture = cv2.imencode('.jpg', np.full((72, 128, 3), 90, np.uint8))[1].tobytes()
        for number in range(frames):
            folder = f'drive/{number}' if frames > 1 else 'frame'
            content = calibration() | dict(timestamp=0.5 * number, ego2global=np.eye(4).tolist())
            archive.writestr(f'{folder}/calibration.json', json.dumps(content))
            for name in CAMERAS:
                archive.writestr(f'{folder}/{name}.jpg', picture)
    return path
