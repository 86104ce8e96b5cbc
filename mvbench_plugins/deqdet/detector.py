"""The detector: stock two-stage control flow around the query decoder."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from torch import Tensor

from mvbench_plugins.common.checkpoint import accept_official_checkpoints

from .checkpoint import convert_state_dict


@MODELS.register_module()
class DEQDet(TwoStageDetector):
    """DEQDet (ICCV 2023) and its untied baseline.

    Officially released checkpoints may be loaded directly as well as converted.

    Args:
        test_autocast: dtype (``'float16'`` or ``'bfloat16'``) in which backbone and neck run at test time on a GPU. The
            published numbers were taken with ``'float16'``; the default is full precision.
        kwargs: arguments of the stock ``TwoStageDetector``.
    """

    def __init__(self, *args, test_autocast: str | None = None, **kwargs) -> None:
        if test_autocast not in (None, 'float16', 'bfloat16'):
            raise ValueError(f"DEQDet: test_autocast must be None, 'float16' or 'bfloat16', got {test_autocast!r}")
        super().__init__(*args, **kwargs)
        self.test_autocast = test_autocast
        accept_official_checkpoints(self, convert_state_dict)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Feature pyramid ``[B, F, H / s, W / s]`` for s = 4, 8, 16, 32 from preprocessed images ``[B, 3, H, W]``."""
        context = nullcontext()
        if self.test_autocast and not self.training and batch_inputs.is_cuda:
            context = torch.autocast('cuda', getattr(torch, self.test_autocast))
        with context:
            return super().extract_feat(batch_inputs)
