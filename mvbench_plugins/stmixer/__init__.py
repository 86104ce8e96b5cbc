"""STMixer: one-stage spatio-temporal action detection (arXiv 2303.15879), registered in mmaction2."""

from mvbench_plugins.version_check import check_toolbox

check_toolbox('mmaction')
check_toolbox('mmdet')  # matching and box losses come from there

from mvbench_plugins import compat  # noqa: E402

compat.apply()

import mvbench_plugins.datasets.action  # noqa: E402
import mvbench_plugins.evaluation.action  # noqa: E402, F401
from mvbench_plugins.common.clip_preprocessor import ClipDataPreprocessor  # noqa: E402
from mvbench_plugins.common.video_vit import VideoVisionTransformer  # noqa: E402

from .decoder_stage import STMixerDecoderStage  # noqa: E402
from .detector import STMixer  # noqa: E402
from .head import STMixerHead  # noqa: E402
from .neck import ChannelMapper3d, SimplePyramid3d  # noqa: E402
from .slowfast import MultiScaleSlowFast  # noqa: E402

__all__ = [
    'ChannelMapper3d',
    'ClipDataPreprocessor',
    'MultiScaleSlowFast',
    'STMixer',
    'STMixerDecoderStage',
    'STMixerHead',
    'SimplePyramid3d',
    'VideoVisionTransformer',
]
