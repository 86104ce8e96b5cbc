"""SparseBEV: multi-camera temporal 3D object detection (arXiv 2308.09244), registered in mmdet3d."""

from mvbench_plugins.version_check import check_toolbox

check_toolbox('mmdet3d')
check_toolbox('mmdet')  # backbones, neck, losses and match costs come from there

from mvbench_plugins import compat  # noqa: E402

compat.apply()

from mvbench_plugins.evaluation.nuscenes_metric import NuScenesDetectionMetric  # noqa: E402

from .assigner import SparseBEVAssigner  # noqa: E402
from .coder import SparseBEVBoxCoder  # noqa: E402
from .data_preprocessor import SparseBEVDataPreprocessor  # noqa: E402
from .dataset import MultiFrameNuScenesDataset  # noqa: E402
from .detector import SparseBEV  # noqa: E402
from .eva02 import EVA02SimplePyramid  # noqa: E402
from .head import SparseBEVHead  # noqa: E402
from .transforms import LoadMultiFrameImages, ResizeCropFlipImages, RotateScaleScene  # noqa: E402
from .vovnet import VoVNetV2  # noqa: E402

__all__ = [
    'EVA02SimplePyramid',
    'LoadMultiFrameImages',
    'MultiFrameNuScenesDataset',
    'NuScenesDetectionMetric',
    'ResizeCropFlipImages',
    'RotateScaleScene',
    'SparseBEV',
    'SparseBEVAssigner',
    'SparseBEVBoxCoder',
    'SparseBEVDataPreprocessor',
    'SparseBEVHead',
    'VoVNetV2',
]
