"""Random batches in the form that the dataloader of each kind of model hands out, for benchmarks."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

InputMaker = Callable[[nn.Module, int, tuple[int, int], bool, Config], dict]

_INPUT_MAKERS: dict[str, InputMaker] = {}


def register_inputs(preprocessor: str) -> Callable[[InputMaker], InputMaker]:
    """Decorates the function that makes random inputs for models with one type of data preprocessor.

    Args:
        preprocessor: Class name of the data preprocessor, for example ``'DetDataPreprocessor'``. Subclasses are not
            included: a 3D preprocessor may well derive from a 2D one.
    """

    def register(maker: InputMaker) -> InputMaker:
        _INPUT_MAKERS[preprocessor] = maker
        return maker

    return register


def make_inputs(model: nn.Module, batch: int, shape: tuple[int, int], train: bool, cfg: Config) -> dict:
    """Makes a random batch as a dataloader would hand it to ``model``.

    Args:
        model: Model with a ``data_preprocessor``.
        batch: Number of samples.
        shape: (height, width) of the resized, unpadded images in pixels; point clouds have a size of their own.
        train: Whether to add annotations.
        cfg: Config of the model, for what the model itself does not know, such as the length of clips.

    Returns:
        The argument of ``model.train_step`` / ``model.test_step``, on the CPU.

    Raises:
        ValueError: Nobody registered inputs for this type of data preprocessor.
    """
    name = type(model.data_preprocessor).__name__
    if name not in _INPUT_MAKERS:
        raise ValueError(
            f'no random inputs are known for the data preprocessor {name} of {type(model).__name__}; known '
            f'are {", ".join(sorted(_INPUT_MAKERS))}. Decorate a function that makes them with '
            f"mvbench_plugins.common.random_inputs.register_inputs('{name}')"
        )
    return _INPUT_MAKERS[name](model, batch, shape, train, cfg)


@register_inputs('DetDataPreprocessor')
def detection_inputs(model: nn.Module, batch: int, shape: tuple[int, int], train: bool, cfg: Config) -> dict:
    """Makes noise images and, for training, eight boxes on each (with masks if the model has a mask head)."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    rng = np.random.default_rng(0)
    height, width = shape
    num_classes = min((n for m in model.modules() if (n := getattr(m, 'num_classes', 0)) > 0), default=1)
    with_mask = any(name.rpartition('.')[2] == 'mask_head' for name, _ in model.named_modules())
    inputs, samples = [], []
    for index in range(batch):
        inputs.append(torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8)))
        sample = DetDataSample(
            metainfo=dict(
                img_id=index, img_path='', img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), flip=False
            )
        )
        if train:
            boxes = _random_boxes(rng, shape)
            objects = InstanceData(
                bboxes=HorizontalBoxes(torch.from_numpy(boxes)),
                labels=torch.from_numpy(rng.integers(0, num_classes, len(boxes))),
            )
            if with_mask:
                masks = np.zeros((len(boxes), height, width), dtype=np.uint8)
                for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int)):
                    mask[top:bottom, left:right] = 1
                objects.masks = BitmapMasks(masks, height, width)
            sample.gt_instances = objects
            sample.ignored_instances = objects[:0]
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


@register_inputs('ClipDataPreprocessor')
def clip_inputs(model: nn.Module, batch: int, shape: tuple[int, int], train: bool, cfg: Config) -> dict:
    """Makes noise clips of the length that the config's test pipeline gives, with the boxes of eight people each."""
    from mmaction.structures import ActionDataSample
    from mmengine.structures import InstanceData

    lengths = [step['clip_len'] for step in cfg.test_dataloader.dataset.pipeline if 'clip_len' in step]
    if len(lengths) != 1:
        raise ValueError(
            f'{cfg.filename}: test_dataloader.dataset.pipeline has {len(lengths)} steps with clip_len, expected one: '
            'it tells how many frames the benchmark has to make'
        )
    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for index in range(batch):
        inputs.append(torch.from_numpy(rng.integers(0, 256, (3, lengths[0], *shape), dtype=np.uint8)))
        sample = ActionDataSample(metainfo=dict(img_shape=shape, video_id=str(index), timestamp=902))
        boxes = torch.from_numpy(_random_boxes(rng, shape))
        sample.proposals = InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)))
        if train:
            actions = rng.random((len(boxes), cfg.train_dataloader.dataset.num_classes)) < 0.03
            sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.from_numpy(actions.astype(np.float32)))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


@register_inputs('SparseBEVDataPreprocessor')
def surround_inputs(model: nn.Module, batch: int, shape: tuple[int, int], train: bool, cfg: Config) -> dict:
    """Makes noise images of nuScenes' six cameras and of as many frames as the model takes, with twenty boxes around.

    For a test with remembered frames, the images of the key frame alone, which stands for all frames: one frame
    goes through the backbone in each step, as in the middle of a drive.
    """
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    from mvbench_plugins.datasets.toy.driving_rig import CAMERAS

    rng = np.random.default_rng(0)
    head = model.pts_bbox_head
    frames, remembered = head.num_frames, not train and model.memory is not None
    projections = np.tile(np.eye(4), (len(CAMERAS), 1, 1))
    for matrix, camera in zip(projections, CAMERAS):
        rotation = camera.rotation.T
        matrix[:3, :3] = camera.intrinsic(shape[::-1]) @ rotation
        matrix[:3, 3] = -matrix[:3, :3] @ camera.translation
    low, high = np.split(np.array(head.bbox_coder.pc_range), 2)
    inputs, samples = [], []
    for index in range(batch):
        images = (1 if remembered else frames) * len(CAMERAS)
        inputs.append(torch.from_numpy(rng.integers(0, 256, (images, 3, *shape), dtype=np.uint8)))
        sample = Det3DDataSample(
            metainfo=dict(
                sample_idx=index,
                img_shape=shape,
                img_path=[camera.channel for camera in CAMERAS] * frames,
                img_timestamp=np.repeat(np.arange(frames) * -0.5, len(CAMERAS)),
                lidar2img=np.tile(projections, (frames, 1, 1)),
                box_type_3d=LiDARInstance3DBoxes,
            )
        )
        if train:
            boxes = np.column_stack([rng.uniform(low, high, (20, 3)), rng.uniform(0.5, 5, (20, 6))])
            sample.gt_instances_3d = InstanceData(
                bboxes_3d=LiDARInstance3DBoxes(torch.from_numpy(boxes.astype(np.float32)), box_dim=9),
                labels_3d=torch.from_numpy(rng.integers(0, head.num_classes, len(boxes))),
            )
        samples.append(sample)
    return dict(inputs=dict(img=inputs), data_samples=samples)


@register_inputs('VOSDataPreprocessor')
def video_inputs(model: nn.Module, batch: int, shape: tuple[int, int], train: bool, cfg: Config) -> dict:
    """Makes noise videos of two objects.

    For a test one video of six frames, of which the first is annotated: the sixth goes into the memory again. For
    training, clips as long as those of the config's training pipeline, annotated throughout.

    Raises:
        ValueError: a batch of several videos in a test, which the model refuses.
    """
    from mmdet.structures import DetDataSample, TrackDataSample
    from mmengine.structures import PixelData

    if not train and batch != 1:
        raise ValueError(f'--batch {batch}: videos are segmented one at a time, frame by frame; use --batch 1')
    rng = np.random.default_rng(0)
    length = max(_values(cfg.train_dataloader, 'num_frames')) if train else 6
    labels = torch.zeros(1, *shape, dtype=torch.uint8)
    for label, (left, top, right, bottom) in enumerate(_random_boxes(rng, shape)[:2].astype(int), 1):
        labels[:, top:bottom, left:right] = label
    clips, samples = [], []
    for index in range(batch):
        clips.append(torch.from_numpy(rng.integers(0, 256, (length, 3, *shape), dtype=np.uint8)))
        frames = []
        for frame_id in range(length):
            annotated = train or frame_id == 0
            meta = dict(video_id=index, frame_id=frame_id, video_length=None, ori_shape=shape, img_shape=shape)
            frame = DetDataSample(metainfo=dict(meta, annotated=annotated))
            if annotated:
                frame.gt_sem_seg = PixelData(sem_seg=labels)
            frames.append(frame)
        samples.append(TrackDataSample(video_data_samples=frames, metainfo=dict(num_objects=2)))
    return dict(inputs=dict(img=clips), data_samples=samples)


@register_inputs('VoxelSegDataPreprocessor')
def labelled_cloud_inputs(model: nn.Module, batch: int, shape: tuple[int, int], train: bool, cfg: Config) -> dict:
    """Makes clouds of 120 000 points, as many as a scan of SemanticKITTI has, with labels for training."""
    from mmdet3d.structures import Det3DDataSample, PointData

    generator = torch.Generator().manual_seed(0)
    clouds = [_random_cloud(120_000, model.data_preprocessor.num_features, generator) for _ in range(batch)]
    samples = [Det3DDataSample(metainfo=dict(lidar_path=f'{index}.bin')) for index in range(batch)]
    for sample, cloud in zip(samples, clouds):
        sample.eval_ann_info = {}
        if train:
            labels = torch.randint(model.decode_head.num_classes, (len(cloud),), generator=generator)
            sample.gt_pts_seg = PointData(pts_semantic_mask=labels)
    return dict(inputs=dict(points=clouds), data_samples=samples)


@register_inputs('VoxelDetDataPreprocessor')
def boxed_cloud_inputs(model: nn.Module, batch: int, shape: tuple[int, int], train: bool, cfg: Config) -> dict:
    """Makes clouds of 250 000 points, as many as ten sweeps of nuScenes have, with twenty boxes for training."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    preprocessor = model.data_preprocessor
    low, high = np.split(np.array(preprocessor.voxel_layer.point_cloud_range, dtype=float), 2)
    num_classes = sum(len(names) for names in model.pts_bbox_head.class_names)
    clouds, samples = [], []
    for index in range(batch):
        clouds.append(_random_cloud(250_000, preprocessor.num_features, generator))
        meta = dict(lidar_path=f'{index}.bin', box_type_3d=LiDARInstance3DBoxes)
        sample = Det3DDataSample(metainfo=meta)
        if train:
            boxes = np.column_stack([rng.uniform(low, high, (20, 3)), rng.uniform(0.5, 5, (20, 6))])
            sample.gt_instances_3d = InstanceData(
                bboxes_3d=LiDARInstance3DBoxes(torch.from_numpy(boxes.astype(np.float32)), box_dim=9),
                labels_3d=torch.from_numpy(rng.integers(0, num_classes, len(boxes))),
            )
        samples.append(sample)
    return dict(inputs=dict(points=clouds), data_samples=samples)


def lidar_surfaces(count: int, reach: float, generator: torch.Generator) -> Tensor:
    """Points ``[count, 3]`` in metres on an uneven ground and on walls, the denser the nearer, up to ``reach``."""
    share, angle, height, kind = torch.rand(4, count, generator=generator)
    radius = reach**share  # from 1 m
    x, y = radius * (angle * 2 * torch.pi).cos(), radius * (angle * 2 * torch.pi).sin()
    wall = kind < 0.4
    x = torch.where(wall & (kind < 0.2), (x / 8).round() * 8, x)
    y = torch.where(wall & (kind >= 0.2), (y / 8).round() * 8, y)
    z = torch.where(wall, height * 4 - 2, 0.3 * (x / 7).sin() - 2)
    return torch.stack([x, y, z], 1)


def _random_cloud(count: int, num_features: int, generator: torch.Generator) -> Tensor:
    """Points ``[count, num_features]``: x, y, z in metres, and values from 0 to 1."""
    places = lidar_surfaces(count, reach=50, generator=generator)
    return torch.cat([places, torch.rand(count, num_features - 3, generator=generator)], 1)


def _values(node: Any, key: str) -> Iterator[Any]:
    """All values of a key, anywhere in a nested config."""
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _values(child, key)


def _random_boxes(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Eight boxes as corners in pixels, float32 ``(8, 4)``."""
    height, width = shape
    size = rng.uniform(0.125, 0.5, (8, 2))
    corner = rng.uniform(0, 1 - size)
    return (np.concatenate([corner, corner + size], 1) * (width, height, width, height)).astype(np.float32)
