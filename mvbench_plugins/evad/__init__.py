"""EVAD: efficient video action detection with token dropout (arXiv 2304.08451), registered in mmaction2."""

from mvbench_plugins.version_check import check_toolbox

check_toolbox('mmaction')
check_toolbox('mmdet')  # localisation stages, matching and box losses come from there

from mvbench_plugins import compat  # noqa: E402

compat.apply()

import mvbench_plugins.datasets.action  # noqa: E402
import mvbench_plugins.evaluation.action  # noqa: E402, F401
from mvbench_plugins.common.clip_preprocessor import ClipDataPreprocessor  # noqa: E402

from .backbone import KeyframeVisionTransformer  # noqa: E402
from .detector import EVAD  # noqa: E402
from .head import EVADHead  # noqa: E402
from .neck import KeyframeFPN  # noqa: E402

__all__ = ['EVAD', 'ClipDataPreprocessor', 'EVADHead', 'KeyframeFPN', 'KeyframeVisionTransformer']
