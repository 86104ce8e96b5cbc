"""Initial queries: every query starts as the whole image, told apart by a learned content vector."""

from __future__ import annotations

import torch.nn.functional as F
from mmdet.models.dense_heads import EmbeddingRPNHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor


@MODELS.register_module()
class FixPositionEmbeddingRPNHead(EmbeddingRPNHead):
    """``EmbeddingRPNHead`` whose boxes are fixed and whose content vectors are normalised at every call.

    The boxes stay part of the checkpoint: released ones hold the whole image, but they are loaded, never assumed. The
    normalisation is a ``LayerNorm`` without affine parameters; the checkpoint holds the raw vectors.

    Args:
        num_proposals: number of queries N.
        proposal_feature_channel: content width C.
        frozen: whether the content vectors are fixed as well.
        kwargs: ignored, as in the stock head, which receives train and test settings here.
    """

    def __init__(
        self, num_proposals: int = 100, proposal_feature_channel: int = 256, frozen: bool = False, **kwargs
    ) -> None:
        super().__init__(num_proposals, proposal_feature_channel, **kwargs)
        self.init_proposal_bboxes.requires_grad_(False)
        self.init_proposal_features.requires_grad_(not frozen)

    def _decode_init_proposals(self, x: list[Tensor], batch_data_samples: SampleList) -> InstanceList:
        """The stock instances (``bboxes`` [N, 4] px, ``imgs_whwh`` [N, 4], normalised ``features`` [N, C])."""
        results = super()._decode_init_proposals(x, batch_data_samples)
        for result in results:
            result.features = F.layer_norm(result.features, result.features.shape[-1:])
        return results
