"""JointFormer: semi-supervised video object segmentation (arXiv 2308.13505), registered in mmdet."""

from mvbench_plugins.version_check import check_toolbox

check_toolbox('mmdet')

from mvbench_plugins import compat  # noqa: E402

compat.apply()

# isort: split
from mvbench_plugins.datasets import vos  # noqa: E402, F401
from mvbench_plugins.evaluation import vos_metric  # noqa: E402, F401

from .backbone import JointConvMAE  # noqa: E402
from .data_preprocessor import VOSDataPreprocessor  # noqa: E402
from .detector import JointFormer  # noqa: E402
from .hooks import VOSCurriculumHook  # noqa: E402
from .losses import BootstrappedCrossEntropy, SlotDiceLoss  # noqa: E402
from .mask_head import JointFormerMaskHead  # noqa: E402

__all__ = [
    'BootstrappedCrossEntropy',
    'JointConvMAE',
    'JointFormer',
    'JointFormerMaskHead',
    'SlotDiceLoss',
    'VOSCurriculumHook',
    'VOSDataPreprocessor',
]
