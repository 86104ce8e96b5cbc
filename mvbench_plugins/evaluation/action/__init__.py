"""Published evaluation protocols of action detection, registered in mmaction."""

from .ava import AVAFrameMetric
from .tube_metric import ActionTubeMetric

__all__ = ['AVAFrameMetric', 'ActionTubeMetric']
