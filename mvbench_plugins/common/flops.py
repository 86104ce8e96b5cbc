"""Multiply-adds of a model by mmengine's analysis, for any kind of input, attention included."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.structures import BaseDataElement
from torch import Tensor, nn


class _Traced(nn.Module):
    """The model on fixed inputs as a function of nothing, which is the form the tracer takes for any kind of input."""

    def __init__(self, model: nn.Module, data: dict, mode: str) -> None:
        super().__init__()
        self.model, self.data, self.mode = model, data, mode

    def forward(self) -> tuple[Tensor, ...]:
        # What does not reach an output is not counted.
        return tuple(_tensors(self.model(**self.data, mode=self.mode)))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, BaseDataElement):
        yield from _tensors(value.to_dict())
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _attention_flops(inputs: list, outputs: list) -> int:
    """Multiply-adds of ``aten::scaled_dot_product_attention``: query x key and weights x value."""
    query, key, value = (v.type().sizes() for v in inputs[:3])
    return int(np.prod(query[:-1])) * key[-2] * (query[-1] + value[-1])


def _baddbmm_flops(inputs: list, outputs: list) -> int:
    """Multiply-adds of ``aten::baddbmm``, the masked attention of ``nn.MultiheadAttention``."""
    return int(np.prod(inputs[1].type().sizes())) * inputs[2].type().sizes()[-1]


def count_flops(model: nn.Module, data: dict) -> dict:
    """Counts the multiply-adds of one inference step by mmengine's analysis.

    A multiply-add counts as one, normalisations and interpolations are estimated, other element-wise work is not
    counted: the convention of mmengine and mmdet. Attention, which mmengine leaves out, is counted as two products.

    Args:
        model: Model with a ``data_preprocessor`` and ``forward(inputs, data_samples, mode)``. Its training mode is
            restored.
        data: Batch as ``model.test_step`` takes it.

    Returns:
        ``total``: the count, None if the model cannot be traced; ``reason``: why not, else None; ``path``: the mode of
        ``forward`` that was traced, ``'tensor'`` (network only) or, where that fails, ``'predict'``; ``uncounted_ops``:
        the number of calls to each operator that was not counted.
    """
    training, fast_path = model.training, torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention layer would be one opaque operator
    reasons = []
    try:
        for mode in ('tensor', 'predict'):
            analyzer = FlopAnalyzer(_Traced(model, model.data_preprocessor(data, False), mode), ())
            analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')
            analyzer.set_op_handle(
                'aten::scaled_dot_product_attention', _attention_flops, 'aten::baddbmm', _baddbmm_flops
            )
            try:
                with torch.no_grad():
                    total = int(analyzer.total())
            except Exception as error:  # whatever a model does under the tracer, it costs this count and nothing else
                reasons.append(f'{mode}: {type(error).__name__}: {error}'.splitlines()[0])
            else:
                return dict(total=total, reason=None, path=mode, uncounted_ops=dict(analyzer.unsupported_ops()))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        model.train(training)
    return dict(total=None, reason='; '.join(reasons), path=None, uncounted_ops={})
