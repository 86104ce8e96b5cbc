"""Training through the fixed point: perturbed refinement path, refinement-aware gradient, gradients taken early.

The decoder is a fixed-point iteration ``s <- f(s)``. Training walks it without a graph and, at chosen places, takes a
few steps *with* a graph whose result is supervised (refinement-aware gradient, section 3.3 of the paper).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from mvbench_plugins.common.xyzr import encode_xyzr

from .decoder_layer import DecoderState

Losses = dict[str, Tensor]


class RefinementAwarePerturbation:
    """Random disturbance of the state before a refinement step (paper, section 3.4).

    One decision holds for the whole batch; content and position are drawn independently, content first.

    Args:
        content_prob: probability of disturbing the content.
        position_prob: probability of disturbing the boxes.
        content_intensity: share of the content that noise of the same norm replaces.
        position_intensity: standard deviation of the noise on box corners, in pixels.
    """

    def __init__(
        self, content_prob: float, position_prob: float, content_intensity: float, position_intensity: float
    ) -> None:
        self.content_prob = content_prob
        self.position_prob = position_prob
        self.content_intensity = content_intensity
        self.position_intensity = position_intensity

    def __call__(self, state: DecoderState) -> DecoderState:
        """The state, disturbed or not. A disturbed box may be inverted; it is used as it is."""
        if self.uniform() < self.content_prob:
            state = state._replace(content=self.perturb_content(state.content, self.normal(state.content)))
        if self.uniform() < self.position_prob:
            box = self.perturb_box(state.box, self.normal(state.box))
            state = state._replace(box=box, position=encode_xyzr(box))
        return state

    def perturb_content(self, content: Tensor, noise: Tensor) -> Tensor:
        """Blend ``[B, N, C]`` with standard normal noise scaled by each query's L2 norm."""
        norm = content.norm(dim=-1, keepdim=True)
        return (1 - self.content_intensity) * content + self.content_intensity * norm * noise

    def perturb_box(self, box: Tensor, noise: Tensor) -> Tensor:
        """Shift the corners ``[B, N, 4]`` by standard normal noise times the intensity in pixels."""
        return box + self.position_intensity * noise

    @staticmethod
    def uniform() -> float:
        """The draw that decides; on the CPU, so that no device is waited for."""
        return torch.rand(()).item()

    @staticmethod
    def normal(like: Tensor) -> Tensor:
        """Standard normal noise of the shape of ``like``."""
        return torch.randn_like(like)


def relative_residual(new: Tensor, old: Tensor) -> Tensor:
    """``|new - old| / |old|`` of the content ``[B, N, C]`` per image ``[B]``: far from a fixed point or not."""
    return (new - old).flatten(1).norm(dim=1) / old.flatten(1).norm(dim=1).clamp(min=1e-12)


def supervised_path(
    step: Callable[[DecoderState], DecoderState],
    state: DecoderState,
    num_steps: int,
    positions: Iterable[int],
    gradient_steps: int,
    perturb: RefinementAwarePerturbation,
) -> Iterator[tuple[int, DecoderState]]:
    """Walk the fixed-point path and yield the predictions to supervise.

    Args:
        step: one application of the equilibrium layer.
        state: start of the path; its history is cut.
        num_steps: length of the path.
        positions: places 1..num_steps at which to supervise.
        gradient_steps: steps with a graph at each place; only the last one's result is yielded.
        perturb: disturbs the path before every step.

    Yields:
        ``(i, state)``: the prediction for place i. The path itself goes on from before these extra steps.
    """
    positions = frozenset(positions)
    state = state.detach()
    for i in range(1, num_steps + 1):
        with torch.no_grad():
            state = step(perturb(state))
        if i in positions:
            supervised = state
            for _ in range(gradient_steps):
                supervised = step(supervised)
            yield i, supervised


def early_gradients(
    losses: Callable[[Sequence[Tensor]], Iterator[Losses]], inputs: Sequence[Tensor], params: Sequence[Tensor]
) -> Losses:
    """Evaluate independent losses one after the other without keeping their graphs.

    Each group of losses is differentiated as soon as it is computed and its graph is freed; the summed gradients are
    handed out when the backward pass arrives. Values and gradients are those of the plain sum, the memory that of the
    largest group. Gradient scaling, accumulation and distributed hooks see one ordinary backward pass.

    Args:
        losses: takes stand-ins for ``inputs`` and yields named losses group by group. Entries with "loss" in their name
            are differentiated, others only passed on.
        inputs: tensors from outside that the losses depend on.
        params: parameters the losses depend on.

    Returns:
        All entries of all groups.

    Raises:
        RuntimeError: in the backward pass, when the losses were weighted differently from each other.
    """
    logs: Losses = {}
    names: list[str] = []

    def group_values(stand_ins: Sequence[Tensor]) -> Iterator[Tensor]:
        for group in losses(stand_ins):
            keys = [key for key in group if 'loss' in key]
            logs.update({key: value.detach() for key, value in group.items()})
            names.extend(keys)
            yield torch.stack([group[key] for key in keys])

    values = _EarlyGradients.apply(group_values, len(inputs), *inputs, *params)
    return {**logs, **dict(zip(names, values.unbind(), strict=True))}


class _EarlyGradients(torch.autograd.Function):
    """Holds the gradient of the sum of all values from the forward to the backward pass."""

    @staticmethod
    def forward(ctx, group_values: Callable, num_inputs: int, *tensors: Tensor) -> Tensor:
        needed = ctx.needs_input_grad[2:]
        stand_ins = [t.detach().requires_grad_(need) for t, need in zip(tensors[:num_inputs], needed, strict=False)]
        leaves = [*stand_ins, *tensors[num_inputs:]]
        wanted = [leaf for leaf, need in zip(leaves, needed, strict=True) if need]
        gradients: list[Tensor | None] = [None] * len(wanted)
        values = []
        with torch.enable_grad():
            for group in group_values(stand_ins):
                values.append(group.detach())
                if not wanted:
                    continue
                for k, grad in enumerate(torch.autograd.grad(group.sum(), wanted, allow_unused=True)):
                    if grad is not None:
                        # A copy, since autograd may hand out one tensor twice, or an expanded one.
                        known = gradients[k]
                        gradients[k] = grad.clone() if known is None else known.add_(grad)
        found = iter(gradients)
        ctx.gradients = [next(found) if need else None for need in needed]
        return torch.cat(values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_values: Tensor) -> tuple[Tensor | None, ...]:
        if not torch.equal(grad_values, grad_values[:1].expand_as(grad_values)):
            raise RuntimeError(
                'The losses of the fixed-point path were weighted differently after the head returned them. Their '
                'gradients were already summed: set roi_head.grad_accumulation=False to weight them one by one.'
            )
        gradients, ctx.gradients = ctx.gradients, None
        return (None, None, *(None if grad is None else grad.mul_(grad_values[0]) for grad in gradients))
