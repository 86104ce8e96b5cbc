"""The decoders: a weight-tied equilibrium iteration (DEQDet) and the untied baseline (FFNDet)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from mmdet.registry import MODELS
from mmdet.utils import ConfigType
from torch import Tensor

from .decoder_layer import DecoderState
from .fixed_point import Losses, RefinementAwarePerturbation, early_gradients, relative_residual, supervised_path
from .query_roi_head import QueryRoIHead, Targets


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
        train_cfgs = None if train_cfg is None else _first_and_last(train_cfg)
        super().__init__(bbox_head=_first_and_last(bbox_head), train_cfg=train_cfgs, **kwargs)
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
        if self.test_cfg is not None and self._test_steps() < 0:
            raise ValueError(
                f'DEQDetRoIHead: test_cfg.rcnn.refinement_steps must be at least 0, got {self._test_steps()}'
            )
        self.frozen_stages = frozen_stages
        for layer in self.bbox_head[:frozen_stages]:
            layer.requires_grad_(False)
        self._applications: int | None = None

    def train(self, mode: bool = True) -> DEQDetRoIHead:
        """Switch the mode; frozen layers stay in eval mode."""
        super().train(mode)
        for layer in self.bbox_head[: self.frozen_stages]:
            layer.eval()
        return self

    def decode(self, step: Callable[[int, DecoderState], DecoderState], state: DecoderState) -> DecoderState:
        """Layer 0 once, then the equilibrium layer until the steps are used up or the content has settled."""
        tolerance = self.test_cfg.get('residual_tol')
        state = step(0, state)
        for application in range(1, self._test_steps() + 2):
            self._applications = application
            previous, state = state, step(1, state)
            # The comparison waits for the device: only when asked for.
            if tolerance is not None and bool((relative_residual(state.content, previous.content) < tolerance).all()):
                break
        return state

    def benchmark_info(self) -> dict:
        """Applications of the equilibrium layer in the last prediction, of how many at most; empty before the first."""
        if self._applications is None:
            return {}
        return dict(equilibrium_layer_applications=self._applications, at_most=self._test_steps() + 1)

    def _test_steps(self) -> int:
        steps = self.test_cfg.get('refinement_steps')
        return self.refinement_steps if steps is None else steps

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
        train_cfgs = None if train_cfg is None else self._per_stage(train_cfg)
        super().__init__(bbox_head=self._per_stage(bbox_head), train_cfg=train_cfgs, **kwargs)
        for layer in self.bbox_head[:frozen_stages]:
            layer.requires_grad_(False)

    def _per_stage(self, cfg: list | ConfigType) -> list:
        cfgs = list(cfg) if isinstance(cfg, (list, tuple)) else [cfg]
        if len(cfgs) == self.num_stages:
            return cfgs
        if len(cfgs) != 1:
            raise ValueError(f'FFNDetRoIHead: {len(cfgs)} configs for num_stages={self.num_stages} layers')
        return cfgs * self.num_stages

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


def _first_and_last(cfg: list | ConfigType) -> list:
    """Settings of layer 0 and layer 1 from a list of any length, or a single one for both."""
    cfgs = cfg if isinstance(cfg, (list, tuple)) else [cfg]
    return [cfgs[0], cfgs[-1]]


def _prefixed(prefix: str, losses: Losses) -> Losses:
    return {prefix + name: value for name, value in losses.items()}
