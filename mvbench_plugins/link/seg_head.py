"""Classification of voxels, and the losses of the segmentation networks."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet3d.models.decode_heads import MinkUNetHead
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample
from torch import Tensor, nn


@MODELS.register_module()
class LinKUNetHead(MinkUNetHead):
    """MinkUNet's head with two losses, cross entropy and Lovasz-softmax.

    ``num_classes`` counts the output for unlabelled points, which both losses only ever push down: it is part of the
    soft-max, and of the argmax, as published.

    Args:
        channels: channels of a voxel.
        num_classes: number of outputs.
        loss_lovasz: the second loss.
        kwargs: further arguments of :class:`~mmdet3d.models.decode_heads.MinkUNetHead`.
    """

    def __init__(self, channels: int, num_classes: int, loss_lovasz: dict, **kwargs) -> None:
        super().__init__(channels, num_classes, dropout_ratio=0, **kwargs)
        self.loss_lovasz = MODELS.build(loss_lovasz)

    def init_weights(self) -> None:
        """Keep torch's initial weights, unlike the stock head."""

    def loss_by_feat(self, seg_logit: Tensor, batch_data_samples: Sequence[Det3DDataSample]) -> dict[str, Tensor]:
        """Losses of logits ``[N, num_classes]`` of all voxels of the batch."""
        logits, labels = seg_logit.float(), self._stack_batch_gt(batch_data_samples)
        labelled = labels != self.ignore_index
        # The stock Lovasz loss cannot filter a single labelled voxel itself, and gives an empty tensor for none.
        lovasz = self.loss_lovasz(logits[labelled], labels[labelled], ignore_index=None).sum()
        return dict(
            loss_ce=self.loss_decode(logits, labels, ignore_index=self.ignore_index),
            loss_lovasz=lovasz,
        )


@MODELS.register_module()
class LinKEncoderHead(LinKUNetHead):
    """Reduces each level by itself before all are classified together.

    Args:
        channels: channels of a voxel, those of all levels together.
        num_classes: number of outputs.
        num_levels: levels that the channels consist of.
        hidden_channels: channels after the reduction, of all levels together.
        kwargs: further arguments of :class:`LinKUNetHead`.
    """

    def __init__(
        self, channels: int, num_classes: int, num_levels: int = 5, hidden_channels: int = 120, **kwargs
    ) -> None:
        self.num_levels = num_levels
        self.hidden_channels = hidden_channels
        super().__init__(channels, num_classes, **kwargs)

    def build_conv_seg(self, channels: int, num_classes: int, kernel_size: int) -> nn.Module:
        """Called by the base class, before this one can have submodules of its own."""
        return nn.Sequential(
            nn.Conv1d(channels, self.hidden_channels, 1, groups=self.num_levels),
            nn.ReLU(inplace=True),
            nn.Conv1d(self.hidden_channels, num_classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, channels]`` to ``[N, num_classes]``."""
        return self.cls_seg(x[..., None])[..., 0]
