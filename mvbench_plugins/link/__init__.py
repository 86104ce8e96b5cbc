"""LinK: linear kernels for LiDAR-based 3D perception (arXiv 2303.16094), registered in mmdet3d."""

from mvbench_plugins.version_check import check_toolbox

check_toolbox('mmdet3d')
check_toolbox('mmdet')  # losses come from there

from mvbench_plugins import compat  # noqa: E402

compat.apply()

from mvbench_plugins.evaluation.nuscenes_metric import NuScenesDetectionMetric  # noqa: E402

from .det_coder import OneClassPerCellCoder  # noqa: E402
from .det_head import LinKCenterHead  # noqa: E402
from .det_losses import SlotFocalLoss  # noqa: E402
from .det_preprocessor import VoxelDetDataPreprocessor  # noqa: E402
from .det_transforms import (  # noqa: E402
    CheckPointFile,
    LoadNearestSweeps,
    ObjectCornerRangeFilter,
    ObjectSampleIntoScene,
)
from .det_tta import LinKCenterPointTTA  # noqa: E402
from .detector import LinKCenterPoint  # noqa: E402
from .hooks import MissingSweepsHook, ResumableDisableObjectSampleHook  # noqa: E402
from .nuscenes_seg_dataset import NuScenesLidarSegDataset  # noqa: E402
from .seg_backbones import LinKEncoder, LinKUNet  # noqa: E402
from .seg_head import LinKEncoderHead, LinKUNetHead  # noqa: E402
from .seg_metric import UnlabelledSegMetric  # noqa: E402
from .seg_preprocessor import VoxelSegDataPreprocessor  # noqa: E402
from .seg_transforms import CheckLabelFile, ScaleIntensity  # noqa: E402
from .segmentor import LinKSegmentor  # noqa: E402
from .sparse_encoder import LinKSparseEncoder  # noqa: E402

__all__ = [
    'CheckLabelFile',
    'CheckPointFile',
    'LinKCenterHead',
    'LinKCenterPoint',
    'LinKCenterPointTTA',
    'LinKEncoder',
    'LinKEncoderHead',
    'LinKSegmentor',
    'LinKSparseEncoder',
    'LinKUNet',
    'LinKUNetHead',
    'LoadNearestSweeps',
    'MissingSweepsHook',
    'NuScenesDetectionMetric',
    'NuScenesLidarSegDataset',
    'ObjectCornerRangeFilter',
    'ObjectSampleIntoScene',
    'OneClassPerCellCoder',
    'ResumableDisableObjectSampleHook',
    'ScaleIntensity',
    'SlotFocalLoss',
    'UnlabelledSegMetric',
    'VoxelDetDataPreprocessor',
    'VoxelSegDataPreprocessor',
]
