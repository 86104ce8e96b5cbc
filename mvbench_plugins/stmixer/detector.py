"""STMixer (arXiv 2303.15879): a clip goes in, the people of its key frame and their actions come out."""

from __future__ import annotations

from collections.abc import Sequence

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModel
from torch import Tensor

from mvbench_plugins.common.checkpoint import accept_official_backbones, accept_official_checkpoints

from .checkpoint import convert_backbone_state_dict, convert_state_dict
from .decoder_stage import Predictions


@MODELS.register_module()
class STMixer(BaseModel):
    """Backbone, feature space and query decoder.

    Official files load under their own key names, whole models as well as pretrained backbones.

    Args:
        backbone: of mmaction; gives ``[B, C, T, H, W]`` maps of four strides, or one map of stride 16 (plain ViT).
        neck: turns them into the feature space.
        head: :class:`~mvbench_plugins.stmixer.head.STMixerHead`.
        data_preprocessor: :class:`~mvbench_plugins.common.clip_preprocessor.ClipDataPreprocessor`.
        init_cfg: initialisation of the whole model.
    """

    def __init__(
        self, backbone: dict, neck: dict, head: dict, data_preprocessor: dict, init_cfg: dict | None = None
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.head = MODELS.build(head)
        accept_official_checkpoints(self, convert_state_dict)
        accept_official_backbones(self.backbone, convert_backbone_state_dict)

    def forward(
        self, inputs: Tensor, data_samples: Sequence[ActionDataSample] | None = None, mode: str = 'tensor'
    ) -> list[Predictions] | dict[str, Tensor] | list[ActionDataSample]:
        """Run the model.

        Args:
            inputs: preprocessed clips ``[B, 3, T, H, W]``.
            data_samples: one per clip, with metainfo ``img_shape`` (height, width before padding) and, for losses,
                ``gt_instances``. May be left out for ``'tensor'``: then no clip has padding.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            The losses, the data samples with predictions, or the raw predictions of each stage.

        Raises:
            ValueError: unknown mode.
        """
        if mode not in ('loss', 'predict', 'tensor'):
            raise ValueError(f"mode {mode!r} is none of 'loss', 'predict' and 'tensor'")
        feats = self.neck(self.backbone(inputs))
        if mode == 'loss':
            return self.head.loss(feats, data_samples)
        if mode == 'predict':
            return self.head.predict(feats, data_samples)
        shapes = [s.img_shape for s in data_samples] if data_samples else [tuple(inputs.shape[-2:])] * len(inputs)
        return self.head(feats, shapes)
