"""EVAD (arXiv 2304.08451): a clip goes in, the people of its key frame and their actions come out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModel
from torch import Tensor

from mvbench_plugins.common.checkpoint import accept_official_backbones, accept_official_checkpoints

from .checkpoint import convert_backbone_state_dict, convert_state_dict
from .localization import PersonPredictions


@MODELS.register_module()
class EVAD(BaseModel):
    """Encoder with token pruning, key-frame pyramid, learnt proposals, and the head.

    Official files load under their own key names, whole models as well as pretrained backbones.

    Args:
        backbone: :class:`~mvbench_plugins.evad.backbone.KeyframeVisionTransformer`.
        neck: :class:`~mvbench_plugins.evad.neck.KeyframeFPN`.
        proposals: mmdet ``EmbeddingRPNHead``: the first boxes and queries.
        head: :class:`~mvbench_plugins.evad.head.EVADHead`.
        data_preprocessor: :class:`~mvbench_plugins.common.clip_preprocessor.ClipDataPreprocessor`.
        init_cfg: initialisation of the whole model.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        proposals: dict,
        head: dict,
        data_preprocessor: dict,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.proposals = MODELS.build(proposals)
        self.head = MODELS.build(head)
        accept_official_checkpoints(self, convert_state_dict)
        accept_official_backbones(self.backbone, convert_backbone_state_dict)

    def forward(
        self, inputs: Tensor, data_samples: Sequence[ActionDataSample] | None = None, mode: str = 'tensor'
    ) -> tuple[list[PersonPredictions], list[Tensor]] | dict[str, Tensor] | list[ActionDataSample]:
        """Run the model.

        Args:
            inputs: preprocessed clips ``[B, 3, T, H, W]``.
            data_samples: one per clip, with metainfo ``img_shape`` (height, width before padding) and, for losses,
                ``gt_instances``. May be left out for ``'tensor'``: then no clip has padding.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            The losses, the data samples with predictions, or the raw predictions of each stage and decoder block.

        Raises:
            ValueError: unknown mode.
        """
        if mode not in ('loss', 'predict', 'tensor'):
            raise ValueError(f"mode {mode!r} is none of 'loss', 'predict' and 'tensor'")
        if data_samples is None:
            data_samples = [ActionDataSample(metainfo=dict(img_shape=tuple(inputs.shape[-2:]))) for _ in inputs]
        tokens = self.backbone(inputs)
        feats = self.neck(tokens.key_maps)
        first = self.proposals.predict([inputs], data_samples)  # of whose dtype the boxes are: not that of autocast
        outputs = self.head(
            feats,
            tokens,
            torch.stack([proposals.bboxes for proposals in first]),
            torch.stack([proposals.features for proposals in first]),
            [sample.img_shape for sample in data_samples],
        )
        if mode == 'loss':
            return self.head.loss(*outputs, data_samples)
        return self.head.predict(*outputs, data_samples) if mode == 'predict' else outputs
