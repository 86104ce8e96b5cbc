"""SparseBEV's data pipeline: from the recorded geometry to our outputs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from mmdet3d.structures import LiDARInstance3DBoxes

from mvbench_plugins.sparsebev.frames import CAMERAS, CameraSet, choose_frames
from mvbench_plugins.sparsebev.transforms import ResizeCropFlipImages, RotateScaleScene

_INPUTS = frozenset(
    'lidar2ego_rotation lidar2ego_translation ego2global_rotation ego2global_translation sensor2global_rotation '
    'sensor2global_translation cam_intrinsic timestamp_us key_lidar2img image image_smooth'.split()
)
_NUMBER = r'(-?\d+(?:\.\d+)?)'
#: What not the inputs of a case say, but its notes.
_NOTED = dict(
    start=rf'seconds minus {_NUMBER}',
    train=rf'resize ratio {_NUMBER}, crop offset draw {_NUMBER}, flip (on|off)',
    turn=rf'rotation {_NUMBER} then scale {_NUMBER}',
    boxes=r'applied to \w+ boxes? (\(.*?\)) and',
)


def run_data(case) -> dict[str, Any]:
    """Our outputs for the recorded geometry, under their recorded names; nothing is left out.

    Raises:
        ValueError: inputs that are not looked at, or notes that do not say what is needed.
    """
    if unknown := sorted(set(case.meta['inputs']) - _INPUTS):
        raise ValueError(f'{case.path}: "inputs": found {unknown}, expected none but {sorted(_INPUTS)}')
    inputs = {name: value.numpy() for name, value in case.inputs().items()}
    shapes = {name: spec['shape'] for name, spec in case.meta['outputs'].items()}
    outputs = _frames(inputs, num_frames=shapes['chosen'][0] // len(CAMERAS))
    (start,) = _noted(case, 'start')
    outputs['img_timestamp'] -= float(start)
    ratio, place, flip = _noted(case, 'train')
    draw = dict(ratio=float(ratio), place=float(place), flip=flip == 'on')
    outputs.update(_images(inputs, crop_size=shapes['test_images'][1:3], train=draw))
    angle, scale = map(float, _noted(case, 'turn'))
    boxes = torch.tensor([float(number) for number in re.findall(_NUMBER, *_noted(case, 'boxes'))]).reshape(-1, 9)
    scene = RotateScaleScene().apply(
        dict(gt_bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), lidar2img=inputs['key_lidar2img']), angle, scale
    )
    outputs.update(turned_boxes=scene['gt_bboxes_3d'].tensor, turned_lidar2img=scene['lidar2img'])
    return outputs


def _noted(case, what: str) -> tuple[str, ...]:
    found = re.search(_NOTED[what], case.meta['notes'])
    if found is None:
        raise ValueError(f'{case.path}: "notes": found nothing like {_NOTED[what]!r}')
    return found.groups()


def _frames(inputs: dict[str, np.ndarray], num_frames: int) -> dict[str, Any]:
    """Choice, projections and times of the key frame and earlier ones at test time."""
    cam2global = np.tile(np.eye(4), (*inputs['timestamp_us'].shape, 1, 1))
    cam2global[..., :3, :3] = inputs['sensor2global_rotation'].swapaxes(-1, -2)  # recorded for row vectors
    cam2global[..., :3, 3] = inputs['sensor2global_translation']
    # The official key frame has projections of its own, which are recorded; here they follow from poses as others do.
    lidar2global = _pose(inputs, 'ego2global') @ _pose(inputs, 'lidar2ego')
    lidar2cam = inputs['key_lidar2img'].copy()
    lidar2cam[:, :3] = np.linalg.inv(inputs['cam_intrinsic']) @ lidar2cam[:, :3]
    cam2global[0] = lidar2global @ np.linalg.inv(lidar2cam)
    sets = [
        CameraSet(CAMERAS, stamps / 1e6, inputs['cam_intrinsic'], poses)
        for stamps, poses in zip(inputs['timestamp_us'], cam2global)
    ]
    chosen = choose_frames(len(sets) - 1, 0, num_frames=num_frames, order='past', key_interval=6, test_mode=True)
    rows = [0, *(position + 1 for _, position in chosen)]
    lidar2img = np.concatenate([sets[row].lidar2img(lidar2global) for row in rows])
    return dict(
        chosen=np.repeat(rows, len(CAMERAS)),
        lidar2img=lidar2img,
        lidar2img_depth_row=lidar2img[:, 2],
        img_timestamp=np.concatenate([sets[row].timestamps for row in rows]),
    )


def _images(inputs: dict[str, np.ndarray], crop_size: tuple[int, int], train: dict[str, Any]) -> dict[str, Any]:
    """Resized, cropped and flipped images, and the matrices that go with them."""
    height, width = inputs['image'].shape[1:3]
    y, x, channel = np.ogrid[:height, :width, :3]
    wave = 127 + 100 * np.sin(x / 9 + y / 7 + channel * inputs['image_smooth'])
    images = (wave + 0.1 * (inputs['image'].astype(np.float64) - 127)).clip(0, 255).astype(np.uint8)
    transform = ResizeCropFlipImages(crop_size)
    ratio, place, flip = transform.draw(images.shape[1:3])
    outputs = {}
    for name, draw in (('test', dict(ratio=ratio, place=place, flip=flip)), ('train', train)):
        outputs[f'{name}_images'] = np.stack([transform.apply(image, **draw) for image in images])
        outputs[f'{name}_matrix'] = transform.matrix(images.shape[1:3], **draw)
    return outputs


def _pose(inputs: dict[str, np.ndarray], name: str) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = inputs[f'{name}_rotation']
    pose[:3, 3] = inputs[f'{name}_translation']
    return pose
