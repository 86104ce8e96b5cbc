"""SparseBEV's head: queries, decoder, losses, boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet3d.registry import MODELS, TASK_UTILS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvbench_plugins.ops.msmv_sampling import FlatViews

from .boxes import CODE_SIZE, query_to_target_boxes
from .decoder import SparseBEVDecoder
from .denoising import DenoisingQueries, QueryDenoising, mark
from .frame_geometry import collect_frame_geometry
from .losses import SparseBEVCriterion

_BOX_DIM = 9  # with velocity
_FIRST_LOG_HEIGHT = 1.5  # queries start as pillars


class HeadOutputs(NamedTuple):
    """Predictions of all S stages.

    Attributes:
        logits: class scores before the sigmoid ``[S, B, Q, num_classes]``.
        boxes: target boxes ``[S, B, Q, 10]``, see :mod:`mvbench_plugins.sparsebev.boxes`.
    """

    logits: Tensor
    boxes: Tensor


@MODELS.register_module()
class SparseBEVHead(BaseModule):
    """Sparse queries that become boxes.

    Args:
        num_classes: number of classes.
        bbox_coder: config of :class:`~mvbench_plugins.sparsebev.coder.SparseBEVBoxCoder`.
        pc_range: ``(x_min, y_min, z_min, x_max, y_max, z_max)`` in metres, the range that queries are relative to.
        in_channels: width C of queries and features.
        num_query: number Q of queries, a square number: they start as a grid of pillars.
        num_frames: frames T.
        num_levels: levels of the feature pyramid.
        num_points: sampled points per group and frame; T times as many points are mixed, 32 in most released models.
        num_groups: groups of feature channels.
        num_decoder_layers: how often the decoder's layer is applied.
        num_heads: attention heads.
        feedforward_channels: hidden width of the feed-forward block.
        dropout: of attention and feed-forward.
        with_cp: recompute parts of the decoder in the backward pass instead of keeping their activations.
        level_weight_order: see :class:`~mvbench_plugins.sparsebev.sampling.AdaptiveSampling`.
        denoising: arguments of :class:`~mvbench_plugins.sparsebev.denoising.QueryDenoising`; None: train without.
        code_weights: weights of the ten numbers of a target box, in the loss and in matching.
        loss_cls: focal loss of mmdet.
        loss_bbox: L1 loss of mmdet, or another with the same arguments.
        train_cfg: ``assigner``, config of :class:`~mvbench_plugins.sparsebev.assigner.SparseBEVAssigner`. Needed for
            training.
        init_cfg: initialisation, as everywhere in mm.

    Raises:
        ValueError: ``num_query`` is no square, or the channels do not divide into groups or heads.
    """

    def __init__(
        self,
        num_classes: int,
        bbox_coder: dict,
        pc_range: Sequence[float],
        in_channels: int = 256,
        num_query: int = 900,
        num_frames: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        num_groups: int = 4,
        num_decoder_layers: int = 6,
        num_heads: int = 8,
        feedforward_channels: int = 512,
        dropout: float = 0.1,
        with_cp: bool = True,
        level_weight_order: str = 'released',
        denoising: dict | None = dict(num_groups=10, center_noise_scale=0.5, label_noise_ratio=0.5),
        code_weights: Sequence[float] = (2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
        loss_cls: dict = dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox: dict = dict(type='mmdet.L1Loss', loss_weight=0.25),
        train_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if math.isqrt(num_query) ** 2 != num_query:
            below = math.isqrt(num_query)
            raise ValueError(
                f'num_query: found {num_query}, expected a square number, since queries start as a square grid; the '
                f'nearest are {below**2} and {(below + 1) ** 2}'
            )
        if in_channels % num_groups or in_channels % num_heads:
            raise ValueError(
                f'in_channels: found {in_channels}, expected a multiple of num_groups ({num_groups}) and of num_heads '
                f'({num_heads})'
            )
        if len(code_weights) != CODE_SIZE:
            raise ValueError(f'code_weights: found {len(code_weights)} numbers, expected {CODE_SIZE}')
        self.num_classes = num_classes
        self.num_query = num_query
        self.num_frames = num_frames
        self.num_groups = num_groups
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        if self.bbox_coder.pc_range != tuple(pc_range):
            raise ValueError(
                f'bbox_coder.pc_range: found {self.bbox_coder.pc_range}, expected the pc_range of the head'
            )
        self.register_buffer('pc_range', torch.tensor(pc_range, dtype=torch.float32), persistent=False)
        # Not in checkpoints: a model that starts from another's weights is trained with the weights of its own config.
        self.register_buffer('code_weights', torch.tensor(code_weights, dtype=torch.float32), persistent=False)
        self.init_query_bbox = nn.Embedding(num_query, CODE_SIZE)
        self.label_enc = nn.Embedding(num_classes + 1, in_channels - 1)
        self.decoder = SparseBEVDecoder(
            num_decoder_layers,
            num_classes=num_classes,
            embed_dims=in_channels,
            num_frames=num_frames,
            num_levels=num_levels,
            num_points=num_points,
            num_groups=num_groups,
            num_heads=num_heads,
            feedforward_channels=feedforward_channels,
            dropout=dropout,
            pc_range=pc_range,
            with_cp=with_cp,
            level_weight_order=level_weight_order,
        )
        self.denoising = None if denoising is None else QueryDenoising(**denoising)
        self.criterion = SparseBEVCriterion(loss_cls, loss_bbox)
        self.assigner = None if train_cfg is None else TASK_UTILS.build(train_cfg['assigner'])

    def init_weights(self) -> None:
        """Queries start on a grid over the ground, x slow and y fast, at its bottom, at rest; the rest is random."""
        super().init_weights()
        self.label_enc.reset_parameters()
        self.init_query_bbox.reset_parameters()
        side = math.isqrt(self.num_query)
        queries = self.init_query_bbox.weight.data
        grid = (torch.arange(side, dtype=queries.dtype, device=queries.device) + 0.5) / side
        queries[:, :2] = torch.cartesian_prod(grid, grid)
        queries[:, 2] = 0.0
        queries[:, 5] = _FIRST_LOG_HEIGHT
        queries[:, 8:] = 0.0

    def forward(
        self, views: FlatViews, data_samples: Sequence[Det3DDataSample], denoising: DenoisingQueries | None = None
    ) -> HeadOutputs:
        """Run the decoder.

        Args:
            views: features of all images, flattened into ``num_groups`` groups.
            data_samples: with the geometry of the images in their meta information.
            denoising: D more queries to be put in front of the others.

        Raises:
            ValueError: the features or the meta information do not fit, see
                :func:`~mvbench_plugins.sparsebev.frame_geometry.collect_frame_geometry`.
        """
        frames = collect_frame_geometry(data_samples, self.num_frames, views.value.device)
        self._check(views)
        batch = len(data_samples)
        boxes = self.init_query_bbox.weight.expand(batch, -1, -1)
        feats = mark(self.label_enc.weight[self.num_classes], denoising=False).expand(batch, self.num_query, -1)
        blocked = None
        if denoising is not None:
            boxes = torch.cat([denoising.boxes, boxes], dim=1)
            feats = torch.cat([denoising.feats, feats], dim=1)
            blocked = denoising.blocked
        logits, boxes = self.decoder(boxes, feats, views, frames, blocked)
        return HeadOutputs(logits, query_to_target_boxes(boxes, self.pc_range))

    def _check(self, views: FlatViews) -> None:
        found, levels = views.value.shape[1], self.decoder.layer.sampling.num_levels
        if found != self.num_frames:  # of which there are projections: data and model agree on num_frames
            raise ValueError(
                f'images of {found} frames beside projections of {self.num_frames}, expected images of all frames: '
                'key_frame_only=True of LoadMultiFrameImages (data) needs test_cfg.online=True (model)'
            )
        if len(views.shapes) != levels:
            raise ValueError(
                f'features of {len(views.shapes)} levels for pts_bbox_head.num_levels={levels}: set it to the number '
                'of outputs of img_neck'
            )

    def loss(self, views: FlatViews, data_samples: Sequence[Det3DDataSample]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            views: features of all images.
            data_samples: with ``gt_instances_3d`` beside the meta information; samples may have no box.

        Raises:
            ValueError: annotations do not fit the model, or there is no assigner.
        """
        if self.assigner is None:
            raise ValueError('model.train_cfg: found none, expected dict(assigner=dict(...)) for training')
        gt_boxes, gt_labels = zip(*(self._annotations(sample) for sample in data_samples))
        self._check_labels(gt_labels, data_samples)
        denoising = None
        if self.denoising is not None:
            denoising = self.denoising(gt_boxes, gt_labels, self.label_enc, self.bbox_coder.encode, self.num_query)
        outputs = self(views, data_samples, denoising)
        return self.criterion(*outputs, gt_boxes, gt_labels, denoising, self.assigner, self.code_weights)

    def _annotations(self, sample: Det3DDataSample) -> tuple[Tensor, Tensor]:
        """LiDAR boxes ``[n, 9]`` with the centre of gravity, and labels ``[n]``."""
        instances = sample.gt_instances_3d
        boxes, labels = instances.bboxes_3d, instances.labels_3d
        if boxes.tensor.shape[1] != _BOX_DIM:
            raise ValueError(
                f'sample {sample.get("token")}: gt_bboxes_3d has {boxes.tensor.shape[1]} columns, expected {_BOX_DIM} '
                'with the velocity: load annotations with with_velocity=True (the default of NuScenesDataset)'
            )
        return torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], dim=1), labels

    def _check_labels(self, gt_labels: Sequence[Tensor], data_samples: Sequence[Det3DDataSample]) -> None:
        wrong = [((labels < 0) | (labels >= self.num_classes)).any() for labels in gt_labels]
        if not torch.stack(wrong).any():  # one read from the device for the batch
            return
        sample, labels = next(pair for pair, is_wrong in zip(zip(data_samples, gt_labels), wrong) if is_wrong)
        raise ValueError(
            f'sample {sample.get("token")}: gt_labels_3d goes from {int(labels.min())} to {int(labels.max())}, '
            f'expected 0 to {self.num_classes - 1}: metainfo.classes of the data set and num_classes of the model '
            'must agree'
        )

    def predict(self, views: FlatViews, data_samples: Sequence[Det3DDataSample]) -> list[InstanceData]:
        """Detections of each sample, the best first.

        Args:
            views: features of all images.
            data_samples: with the geometry of the images in their meta information.

        Returns:
            One for each sample, with ``bboxes_3d``, ``scores_3d`` and ``labels_3d``.
        """
        logits, targets = self(views, data_samples)
        results = []
        for sample_logits, sample_targets in zip(logits[-1], targets[-1], strict=True):
            boxes, scores, labels = self.bbox_coder.decode(sample_logits, sample_targets)
            boxes = LiDARInstance3DBoxes(boxes, box_dim=_BOX_DIM, origin=(0.5, 0.5, 0.5))
            results.append(InstanceData(bboxes_3d=boxes, scores_3d=scores, labels_3d=labels))
        return results
