"""CycleACR: actions of given people, with context and memory (arXiv 2303.16118), registered in mmaction2."""

from mvbench_plugins.version_check import check_toolbox

check_toolbox('mmaction')

from mvbench_plugins import compat  # noqa: E402

compat.apply()

import mvbench_plugins.datasets.action  # noqa: E402
import mvbench_plugins.evaluation.action  # noqa: E402, F401
from mvbench_plugins.common.clip_preprocessor import ClipDataPreprocessor  # noqa: E402
from mvbench_plugins.common.video_vit import VideoVisionTransformer  # noqa: E402

from .detector import CycleACR  # noqa: E402
from .head import CycleACRHead  # noqa: E402
from .hooks import MemoryBankHook  # noqa: E402
from .loops import MemoryTestLoop, MemoryValLoop  # noqa: E402
from .losses import GroupedFocalLoss, PersonSumBCELoss  # noqa: E402
from .memory_bank import MemoryBank  # noqa: E402
from .slowfast import AlphActionSlowFast  # noqa: E402

__all__ = [
    'AlphActionSlowFast',
    'ClipDataPreprocessor',
    'CycleACR',
    'CycleACRHead',
    'GroupedFocalLoss',
    'MemoryBank',
    'MemoryBankHook',
    'MemoryTestLoop',
    'MemoryValLoop',
    'PersonSumBCELoss',
    'VideoVisionTransformer',
]
