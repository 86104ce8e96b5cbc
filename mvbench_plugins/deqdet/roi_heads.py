"""The decoders: a weight-tied equilibrium iteration (DEQDet) and the untied baseline (FFNDet)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
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
from .fixed_point import Losses, RefinementAwarePerturbation, early_gradients, relative_residual, supervised_path


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


@MODELS.register_module()
class DEQDetRoIHead(QueryRoIHead):
    """The deep-equilibrium decoder: an initialisation layer, then one weight-tied layer iterated (paper, section 3).

    Inference applies the initialisation layer once and the equilibrium layer ``refinement_steps + 1`` times. Training
    supervises the initialisation layer, ``extra_supervisions_on_init_head`` steps after it, and the result of
    ``refinement_aware_gradient_steps`` further steps from each of the ``supervision_position`` along the detached path.

    Args:
        bbox_head: one or more layer configs; the first makes layer 0, the last the equilibrium layer 1.
        rag: steps with a graph at each supervised place (refinement-aware gradient).
        extra_supervisions_on_init_head: supervised steps right after layer 0.
        grad_accumulation: take the gradients of each supervised place as soon as its loss is known, so that the memory
            of training does not grow with the number of places. Same losses and gradients; False keeps all graphs,
            which is needed only to weight the losses differently or to differentiate twice.
        refinement_steps: length of the path in training, and default at test time.
        supervision_position: places 1..refinement_steps that are supervised.
        perturb_content_prob: see :class:`~mvbench_plugins.deqdet.fixed_point.RefinementAwarePerturbation`.
        perturb_position_prob: as above.
        perturb_content_intensity: as above.
        perturb_position_intensity: as above, in pixels.
        frozen_stages: the first so many of the two layers get no gradient and stay in eval mode.
        train_cfg: one or more settings; the first serves layer 0, the last layer 1.
        test_cfg: besides ``max_per_img``: ``refinement_steps`` overrides the number of steps (fewer are faster, no
            retraining needed), ``residual_tol`` stops once the relative residual of the content of every image in the
            batch is below it.
        kwargs: arguments of :class:`QueryRoIHead`.

    Raises:
        ValueError: a supervised place outside of 1..refinement_steps, or steps below their minimum.
    """

    def __init__(
        self,
        bbox_head: list[ConfigType] | ConfigType,
        rag: int = 2,
        extra_supervisions_on_init_head: int = 2,
        grad_accumulation: bool = True,
        refinement_steps: int = 20,
        supervision_position: Sequence[int] = (1, 3, 6, 9, 12, 20),
        perturb_content_prob: float = 0.2,
        perturb_position_prob: float = 0.2,
        perturb_content_intensity: float = 0.1,
        perturb_position_intensity: float = 25.0,
        frozen_stages: int = 0,
        train_cfg: list[ConfigType] | ConfigType | None = None,
        **kwargs,
    ) -> None:
        super().__init__(bbox_head=_first_and_last(bbox_head), train_cfg=_first_and_last(train_cfg), **kwargs)
        outside = [i for i in supervision_position if not 1 <= i <= refinement_steps]
        if outside:
            raise ValueError(
                f'DEQDetRoIHead: supervision_position {outside} outside of 1..{refinement_steps} (refinement_steps)'
            )
        if rag < 1:
            raise ValueError(f'DEQDetRoIHead: rag must be at least 1, got {rag}')
        self.rag = rag
        self.extra_supervisions_on_init_head = extra_supervisions_on_init_head
        self.grad_accumulation = grad_accumulation
        self.refinement_steps = refinement_steps
        self.supervision_position = tuple(supervision_position)
        self.perturb = RefinementAwarePerturbation(
            perturb_content_prob, perturb_position_prob, perturb_content_intensity, perturb_position_intensity
        )
        self.frozen_stages = frozen_stages
        for layer in self.bbox_head[:frozen_stages]:
            layer.requires_grad_(False)
        self._steps_used: int | None = None

    def train(self, mode: bool = True) -> DEQDetRoIHead:
        """Switch the mode; frozen layers stay in eval mode."""
        super().train(mode)
        for layer in self.bbox_head[: self.frozen_stages]:
            layer.eval()
        return self

    def decode(self, step: Callable[[int, DecoderState], DecoderState], state: DecoderState) -> DecoderState:
        """Layer 0 once, then the equilibrium layer until the steps are used up or the content has settled."""
        steps = self.test_cfg.get('refinement_steps')
        steps = self.refinement_steps if steps is None else steps
        if steps < 0:
            raise ValueError(f'test_cfg.rcnn.refinement_steps must be at least 0, got {steps}')
        tolerance = self.test_cfg.get('residual_tol')
        state = step(0, state)
        for used in range(1, steps + 2):  # noqa: B007
            previous, state = state, step(1, state)
            # The comparison waits for the device: only when asked for.
            if tolerance is not None and bool((relative_residual(state.content, previous.content) < tolerance).all()):
                break
        self._steps_used = used
        return state

    def benchmark_info(self) -> dict:
        """Applications of the equilibrium layer in the last prediction, of how many at most."""
        steps = self.test_cfg.get('refinement_steps')
        limit = (self.refinement_steps if steps is None else steps) + 1
        return dict(equilibrium_layer_applications=self._steps_used, at_most=limit)

    def supervise(self, x: tuple[Tensor, ...], state: DecoderState, targets: Targets) -> Losses:
        """Losses ``init_*``, ``init^k_*`` and ``iter{i}_*``, four entries each (plus those of a mask head)."""
        pyramid = self._flatten(x)
        step = self._stepper(pyramid)
        start = step(0, state)
        losses = _prefixed('init_', self._state_loss(0, x, start, targets))
        state = start
        for k in range(1, self.extra_supervisions_on_init_head + 1):
            state = step(1, state)
            losses |= _prefixed(f'init^{k}_', self._state_loss(1, x, state, targets))

        def path_losses(inputs: Sequence[Tensor]) -> Iterator[Losses]:
            value, *maps = inputs
            step = self._stepper(pyramid._replace(value=value))
            path = supervised_path(
                lambda s: step(1, s),
                start,
                self.refinement_steps,
                self.supervision_position,
                self.rag,
                self.perturb,
            )
            for i, supervised in path:
                yield _prefixed(f'iter{i}_', self._state_loss(1, maps, supervised, targets))

        inputs = [pyramid.value, *(x if self.with_mask else ())]
        if self.grad_accumulation and torch.is_grad_enabled():
            params = [*self.bbox_head[1].parameters()]
            if self.with_mask:
                params += self.mask_head[1].parameters()
            return losses | early_gradients(path_losses, inputs, params)
        for group in path_losses(inputs):
            losses |= group
        return losses


@MODELS.register_module()
class FFNDetRoIHead(QueryRoIHead):
    """The baseline: untied decoder layers, one after the other, each supervised (paper, section 4.1).

    Args:
        num_stages: number of layers.
        bbox_head: config of every layer, or a list of ``num_stages`` configs.
        train_cfg: likewise.
        frozen_stages: the first so many layers get no gradient.
        kwargs: arguments of :class:`QueryRoIHead`.
    """

    def __init__(
        self,
        bbox_head: list[ConfigType] | ConfigType,
        num_stages: int = 6,
        frozen_stages: int = 0,
        train_cfg: list[ConfigType] | ConfigType | None = None,
        **kwargs,
    ) -> None:
        self.num_stages = num_stages
        super().__init__(bbox_head=self._per_stage(bbox_head), train_cfg=self._per_stage(train_cfg), **kwargs)
        for layer in self.bbox_head[:frozen_stages]:
            layer.requires_grad_(False)

    def _per_stage(self, cfg: list | ConfigType | None) -> list | None:
        cfgs = cfg if isinstance(cfg, (list, tuple)) or cfg is None else [cfg]
        if cfgs is None or len(cfgs) == self.num_stages:
            return cfgs
        if len(cfgs) != 1:
            raise ValueError(f'FFNDetRoIHead: {len(cfgs)} configs for num_stages={self.num_stages} layers')
        return list(cfgs) * self.num_stages

    def decode(self, step: Callable[[int, DecoderState], DecoderState], state: DecoderState) -> DecoderState:
        """All layers once, in order."""
        for layer in range(self.num_stages):
            state = step(layer, state)
        return state

    def supervise(self, x: tuple[Tensor, ...], state: DecoderState, targets: Targets) -> Losses:
        """Losses ``stage_{k}loss_*`` of every layer, under the names of the released logs."""
        losses: Losses = {}
        step = self._stepper(self._flatten(x))
        for layer in range(self.num_stages):
            state = step(layer, state)
            losses |= _prefixed(f'stage_{layer}', self._state_loss(layer, x, state, targets))
        return losses


def _initial_state(rpn_results_list: InstanceList) -> DecoderState:
    box = torch.stack([res.bboxes for res in rpn_results_list])
    return DecoderState.from_boxes(box, torch.stack([res.features for res in rpn_results_list]))


def _full_precision(x: Sequence[Tensor]) -> torch.autocast:
    """No autocast in the decoder: ``log2``, ``2^z`` and ``log(IoF + 1e-7)`` do not survive half precision."""
    return torch.autocast(device_type=x[0].device.type, enabled=False)


def _first_and_last(cfg: list | ConfigType | None) -> list | None:
    """Settings of layer 0 and layer 1 from a list of any length, or a single one for both."""
    if cfg is None:
        return None
    cfgs = cfg if isinstance(cfg, (list, tuple)) else [cfg]
    return [cfgs[0], cfgs[-1]]


def _prefixed(prefix: str, losses: Losses) -> Losses:
    return {prefix + name: value for name, value in losses.items()}
