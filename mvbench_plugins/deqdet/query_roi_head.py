"""What the equilibrium decoder and the untied baseline share: initial state, supervision, post-processing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from mmdet.models.roi_heads.base_roi_head import BaseRoIHead
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvbench_plugins.ops.pyramid_sampling import FlatPyramid, flatten_pyramid

from .decoder_layer import DecoderState
from .fixed_point import Losses


class Targets(NamedTuple):
    """What a batch is supervised with."""

    gt_instances: InstanceList
    img_metas: list[dict]
    imgs_whwh: Tensor  # [B, N, 4] pixels


class QueryRoIHead(BaseRoIHead):
    """What both decoders share: initial state, supervision of a state, post-processing.

    Args:
        bbox_head: configs of the decoder layers, one per layer.
        mask_head: config of a mask head of :mod:`mvbench_plugins.deqdet.mask_heads`, built once per layer.
        bbox_roi_extractor: accepted for compatibility with released configs, without effect.
        featmap_strides: strides of the feature pyramid.
        train_cfg: assigner, sampler and ``pos_weight`` of each layer.
        test_cfg: ``max_per_img``; with masks also ``mask_thr_binary``.
    """

    def __init__(
        self,
        bbox_head: list[ConfigType],
        mask_head: OptConfigType = None,
        bbox_roi_extractor: OptConfigType = None,
        featmap_strides: Sequence[int] = (4, 8, 16, 32),
        train_cfg: list[ConfigType] | None = None,
        test_cfg: OptConfigType = None,
    ) -> None:
        super().__init__(
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            mask_head=mask_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
        )
        self.featmap_strides = tuple(featmap_strides)

    def init_bbox_head(self, bbox_roi_extractor: OptConfigType, bbox_head: list[ConfigType]) -> None:
        """Build one decoder layer per config."""
        self.bbox_head = nn.ModuleList([MODELS.build(cfg) for cfg in bbox_head])

    def init_mask_head(self, mask_roi_extractor: OptConfigType, mask_head: ConfigType) -> None:
        """Build one mask head per decoder layer."""
        self.mask_head = nn.ModuleList([MODELS.build(mask_head) for _ in self.bbox_head])

    def init_assigner_sampler(self) -> None:
        """Build assigner and sampler of each decoder layer; none without train settings."""
        cfgs = self.train_cfg or []
        self.bbox_assigner = [TASK_UTILS.build(cfg.assigner) for cfg in cfgs]
        self.bbox_sampler = [TASK_UTILS.build(cfg.sampler) for cfg in cfgs]

    @abstractmethod
    def decode(self, step: Callable[[int, DecoderState], DecoderState], state: DecoderState) -> DecoderState:
        """The final state; ``step(layer, state)`` applies a layer."""

    @abstractmethod
    def supervise(self, x: tuple[Tensor, ...], state: DecoderState, targets: Targets) -> Losses:
        """All training losses, starting from the initial state."""

    def forward(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> tuple[Tensor, Tensor]:
        """Raw predictions: class logits ``[B, N, num_classes]`` and corner boxes ``[B, N, 4]`` in input pixels."""
        state = self._final_state(x, rpn_results_list)
        return state.logits, state.box

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> Losses:
        """Training losses.

        Args:
            x: feature pyramid, ``[B, F, H_l, W_l]`` per level.
            rpn_results_list: initial queries of each image.
            batch_data_samples: ground truth of each image.

        Returns:
            Named losses; those with "loss" in the name are to be summed.
        """
        gt_instances, _, img_metas = unpack_gt_instances(batch_data_samples)
        imgs_whwh = torch.stack([res.imgs_whwh for res in rpn_results_list])
        with _full_precision(x):
            x = tuple(feat.float() for feat in x)
            return self.supervise(x, _initial_state(rpn_results_list), Targets(gt_instances, img_metas, imgs_whwh))

    def predict(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Detections of each image: ``scores``, ``labels``, ``bboxes`` (not clipped), and ``masks`` with a mask head.

        A query may appear with several classes. With ``rescale`` boxes and masks are in the original image.
        """
        state = self._final_state(x, rpn_results_list)
        img_metas = [sample.metainfo for sample in batch_data_samples]
        results, query_inds = [], []
        for logits, box in zip(state.logits, state.box, strict=True):
            num = min(self.test_cfg.max_per_img, logits.numel())
            scores, flat = logits.sigmoid().flatten().topk(num, sorted=False)
            query = flat // logits.shape[-1]
            results.append(InstanceData(scores=scores, labels=flat % logits.shape[-1], bboxes=box[query]))
            query_inds.append(query)
        if self.with_mask:
            x = tuple(feat.float() for feat in x)
            self.mask_head[-1].predict(x, state, query_inds, results, img_metas, self.test_cfg, rescale)
        if rescale:
            for result, meta in zip(results, img_metas, strict=True):
                result.bboxes = result.bboxes / result.bboxes.new_tensor(meta['scale_factor']).repeat(2)
        return results

    def _final_state(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList) -> DecoderState:
        with _full_precision(x):
            return self.decode(self._stepper(self._flatten(x)), _initial_state(rpn_results_list))

    def _flatten(self, x: Sequence[Tensor]) -> FlatPyramid:
        x = [feat.float() for feat in x]
        return flatten_pyramid(x, self.featmap_strides, self.bbox_head[0].n_groups)

    def _stepper(self, pyramid: FlatPyramid) -> Callable[[int, DecoderState], DecoderState]:
        """``step(layer, state)`` on this pyramid."""
        return lambda layer, state: self.bbox_head[layer](pyramid, state)

    def _state_loss(self, layer: int, x: Sequence[Tensor], state: DecoderState, targets: Targets) -> Losses:
        """Match the predictions of a state to the objects of each image and evaluate the losses of its layer."""
        samples = []
        for i, gt in enumerate(targets.gt_instances):
            # The stock assigner and sampler expect plain tensors of the predictions under these names.
            box = state.box[i].detach()
            predictions = InstanceData(bboxes=box, priors=box, scores=state.logits[i].detach())
            gt = InstanceData(metainfo=gt.metainfo, **dict(gt.items()))
            gt.bboxes = get_box_tensor(gt.bboxes)
            assigned = self.bbox_assigner[layer].assign(predictions, gt, img_meta=targets.img_metas[i])
            samples.append(self.bbox_sampler[layer].sample(assigned, predictions, gt))
        cfg = self.train_cfg[layer]
        losses = self.bbox_head[layer].loss_and_target(
            state.logits.flatten(0, 1), state.box.flatten(0, 1), samples, cfg, targets.imgs_whwh.flatten(0, 1)
        )
        if self.with_mask:
            losses |= self.mask_head[layer].loss(x, state, samples, targets.gt_instances, cfg)
        return losses


def _initial_state(rpn_results_list: InstanceList) -> DecoderState:
    box = torch.stack([res.bboxes for res in rpn_results_list])
    return DecoderState.from_boxes(box, torch.stack([res.features for res in rpn_results_list]))


def _full_precision(x: Sequence[Tensor]) -> torch.autocast:
    """No autocast in the decoder: ``log2``, ``2^z`` and ``log(IoF + 1e-7)`` do not survive half precision."""
    return torch.autocast(device_type=x[0].device.type, enabled=False)
