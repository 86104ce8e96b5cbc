"""DEQDet: object detection with a deep-equilibrium decoder (arXiv 2308.09564), registered in mmdet."""

from mvbench_plugins.version_check import check_toolbox

check_toolbox('mmdet')

from mvbench_plugins import compat  # noqa: E402

compat.apply()

from .dataset import CheckedCocoDataset  # noqa: E402
from .decoder_layer import AdaMixerHead, DecoderState  # noqa: E402
from .detector import DEQDet  # noqa: E402
from .hooks import EquilibriumResidualHook  # noqa: E402
from .mask_heads import DeCoupleMLVLEHead, WarpedEfficientDynamicMaskHead  # noqa: E402
from .neck import ChannelMapperWithGN  # noqa: E402
from .queries import FixPositionEmbeddingRPNHead  # noqa: E402
from .roi_heads import DEQDetRoIHead, FFNDetRoIHead  # noqa: E402

__all__ = [
    'AdaMixerHead',
    'ChannelMapperWithGN',
    'CheckedCocoDataset',
    'DEQDet',
    'DEQDetRoIHead',
    'DeCoupleMLVLEHead',
    'DecoderState',
    'EquilibriumResidualHook',
    'FFNDetRoIHead',
    'FixPositionEmbeddingRPNHead',
    'WarpedEfficientDynamicMaskHead',
]
