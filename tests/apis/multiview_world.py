"""What the tests of the multi-view inferencer are built from: drives, configs, and a detector of known answers."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from pyquaternion import Quaternion

from mvbench_plugins.sparsebev.dataset import CLASSES
from mvbench_plugins.sparsebev.frames import CAMERAS

VERSION = 'v1.0-trainval'
SCENE = 'scene-0092'
META_KEYS = (
    'img_path',
    'img_timestamp',
    'img_shape',
    'lidar2img',
    'token',
    'scene_token',
    'box_type_3d',
    'box_mode_3d',
)
PC_RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]


@MODELS.register_module()
class OracleDetector(BaseModel):
    """Finds what stands in :attr:`answers` under the token of a sample, or else one car ten metres ahead.

    Attributes:
        answers: boxes ``[n, 9]`` (bottom centre) and labels by token.
        seen: tokens, in the order of their coming.
        interrupt: a signal that comes after so many samples.
    """

    interrupt: tuple[int, signal.Signals] | None = None

    def __init__(self, test_cfg: dict | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.answers: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self.seen: list[str] = []

    def forward(self, inputs: dict, data_samples: list, mode: str = 'predict') -> list:
        for image, sample in zip(inputs['img'], data_samples, strict=True):
            if self.interrupt and len(self.seen) == self.interrupt[0]:
                signal.raise_signal(self.interrupt[1])
            assert image.dtype == torch.uint8 and len(image) == len(sample.img_path)
            self.seen.append(sample.token)
            ahead = torch.tensor([[0, 10, -1.8, 4, 2, 1.5, np.pi / 2, 0, 5]]), torch.tensor([0])
            boxes, labels = self.answers.get(sample.token, ahead)
            sample.pred_instances_3d = InstanceData(
                bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9),
                scores_3d=torch.linspace(0.9, 0.4, len(labels)),
                labels_3d=labels,
            )
        return data_samples


def oracle_config(root: Path, num_frames: int = 3, crop: tuple[int, int] = (64, 128)) -> Config:
    """Config of the oracle on the toy set."""
    pipeline = [
        dict(type='LoadMultiFrameImages', num_frames=num_frames, test_mode=True),
        dict(type='ResizeCropFlipImages', crop_size=crop),
        dict(type='Pack3DDetInputs', keys=['img'], meta_keys=META_KEYS),
    ]
    dataset = dict(
        type='MultiFrameNuScenesDataset',
        data_root=str(root),
        ann_file='toy_infos_val.pkl',
        pipeline=pipeline,
        test_mode=True,
    )
    return Config(
        dict(
            default_scope='mmdet3d',
            model=dict(type='OracleDetector'),
            test_dataloader=dict(dataset=dataset),
        )
    )


def sparsebev_config(root: Path) -> Config:
    """A SparseBEV of three frames, small enough for a few milliseconds."""
    cfg = oracle_config(root)
    cfg.model = dict(
        type='SparseBEV',
        data_preprocessor=dict(type='SparseBEVDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3),
        img_backbone=dict(
            type='mmdet.ResNet',
            depth=18,
            base_channels=8,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(1, 2),
        ),
        img_neck=dict(type='mmdet.FPN', in_channels=[16, 32], out_channels=32, num_outs=2),
        pts_bbox_head=dict(
            type='SparseBEVHead',
            num_classes=len(CLASSES),
            in_channels=32,
            num_query=16,
            pc_range=PC_RANGE,
            num_frames=3,
            num_levels=2,
            num_decoder_layers=2,
            feedforward_channels=32,
            bbox_coder=dict(
                type='SparseBEVBoxCoder',
                pc_range=PC_RANGE,
                post_center_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0],
                max_num=20,
                score_threshold=0.0,
            ),
        ),
    )
    return cfg


class ToyTables:
    """The tables of a toy nuScenes, read without the code under test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ('scene', 'sample', 'sample_data', 'calibrated_sensor', 'ego_pose', 'sensor'):
            records = json.loads((root / VERSION / f'{name}.json').read_text())
            setattr(self, name, {record['token']: record for record in records})

    def tokens(self, scene: str = SCENE) -> list[str]:
        """Tokens of the samples of a scene, in the order of time."""
        token = next(record['first_sample_token'] for record in self.scene.values() if record['name'] == scene)
        tokens = []
        while token:
            tokens.append(token)
            token = self.sample[token]['next']
        return tokens

    def write_drive(self, folder: Path, every: int = 1) -> Path:
        """Writes the frames of the first scene for validation, one folder each, and returns the folder of all.

        Names count 1, 2 ..., so that the order of letters is not that of time.
        """
        for number, files in enumerate(self._frames()[::every], start=1):
            out = folder / f'frame {number}'
            out.mkdir(parents=True)
            cameras = {}
            for camera in CAMERAS:
                record = files[camera]
                shutil.copy(self.root / record['filename'], out / f'{camera.lower()}.jpg')
                sensor = self.calibrated_sensor[record['calibrated_sensor_token']]
                cameras[camera] = dict(
                    image=f'{camera.lower()}.jpg',
                    intrinsics=sensor['camera_intrinsic'],
                    cam2ego=_pose(sensor),
                    timestamp=record['timestamp'] / 1e6,
                    ego2global=_pose(self.ego_pose[record['ego_pose_token']]),
                )
            lidar = files['LIDAR_TOP']
            content = dict(
                timestamp=lidar['timestamp'] / 1e6,
                ego2global=_pose(self.ego_pose[lidar['ego_pose_token']]),
                lidar2ego=_pose(self.calibrated_sensor[lidar['calibrated_sensor_token']]),
                cameras=cameras,
            )
            (out / 'calibration.json').write_text(json.dumps(content))
        return folder

    def _frames(self) -> list[dict[str, dict]]:
        """All camera sets of the scene with their LiDAR sweep, by channel."""
        samples, frames = set(self.tokens()), {}
        for record in self.sample_data.values():
            if record['sample_token'] in samples:
                sensor = self.calibrated_sensor[record['calibrated_sensor_token']]['sensor_token']
                frames.setdefault(self.sensor[sensor]['channel'], []).append(record)
        ordered = {name: sorted(records, key=lambda each: each['timestamp']) for name, records in frames.items()}
        return [dict(zip(ordered, records)) for records in zip(*ordered.values(), strict=True)]


def _pose(record: dict) -> list[list[float]]:
    pose = Quaternion(record['rotation']).transformation_matrix
    pose[:3, 3] = record['translation']
    return pose.tolist()
