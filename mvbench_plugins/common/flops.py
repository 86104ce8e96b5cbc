"""Multiply-adds of a model, for any kind of input, attention and sparse convolutions included."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten


# Handles take the shapes of an operator's tensors, and give twice the count: for FlopCounterMode a multiply-add is two.


def _interpolation(weights: int) -> Callable[..., int]:
    return lambda *args, out_shape, **kwargs: 2 * weights * math.prod(out_shape)


def _batch_norm(shape: Sequence[int], weight: Sequence[int] | None, *args: Any, **kwargs: Any) -> int:
    return 2 * (1 if weight is None else 2) * math.prod(shape)


def _layer_norm(shape: Sequence[int], _: Any, weight: Sequence[int] | None, *args: Any, **kwargs: Any) -> int:
    return 2 * (4 if weight is None else 5) * math.prod(shape)


def _group_norm(shape: Sequence[int], weight: Sequence[int] | None, *args: Any, **kwargs: Any) -> int:
    return 2 * (4 if weight is None else 5) * math.prod(shape)


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Query x key and weights x value."""
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


#: What FlopCounterMode leaves out: estimates as mmengine's, and the attention of CPUs.
_HANDLES: dict[Any, Callable[..., int]] = {
    aten.native_batch_norm: _batch_norm,
    aten._native_batch_norm_legit_no_training: _batch_norm,
    aten.cudnn_batch_norm: _batch_norm,
    aten.native_layer_norm: _layer_norm,
    aten.native_group_norm: _group_norm,
    aten.upsample_nearest2d: _interpolation(1),
    aten.upsample_bilinear2d: _interpolation(4),
    aten.grid_sampler_2d: _interpolation(4),
    aten.grid_sampler_3d: _interpolation(4),
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
}


def count_flops(model: nn.Module, data: dict) -> dict:
    """Counts the multiply-adds of one inference step while it runs.

    A multiply-add counts as one; matrix products, convolutions and attention are counted, normalisations and
    interpolations are estimated, other element-wise work is not counted: the convention of mmengine and mmdet. The
    network is run rather than traced, as sparse convolutions take indices in a form on which tracers fail.

    Args:
        model: Model with a ``data_preprocessor`` and ``forward(inputs, data_samples, mode)``. Its training mode is
            restored.
        data: Batch as ``model.test_step`` takes it.

    Returns:
        ``total``: the count, None if the model cannot be run so; ``reason``: why not, else None; ``path``: the mode of
        ``forward`` that was run, ``'tensor'`` (network only) or, where that fails, ``'predict'``.
    """
    training, fast_path = model.training, torch.backends.mha.get_fastpath_enabled()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval().requires_grad_(False)  # the counter's hooks refuse parts that compute with gradients under no_grad
    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention layer would be one opaque operator
    reasons = []
    try:
        for mode in ('tensor', 'predict'):
            batch = model.data_preprocessor(data, False)
            try:
                with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_HANDLES) as counter:
                    model(**batch, mode=mode)
            except Exception as error:  # whatever a model does, it costs this count and nothing else
                reasons.append(f'{mode}: {type(error).__name__}: {error}'.splitlines()[0])
            else:
                return dict(total=counter.get_total_flops() // 2, reason=None, path=mode)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        model.train(training)
        for parameter in trained:
            parameter.requires_grad_()
    return dict(total=None, reason='; '.join(reasons), path=None)
