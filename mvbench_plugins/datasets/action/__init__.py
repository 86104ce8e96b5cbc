"""Key-frame data sets and transforms of action detection, registered in mmaction."""

from .ava import AVAKeyFrameDataset
from .transforms import (
    ClipBoxes,
    DecodeVideoClip,
    FlipClip,
    LoadClipFrames,
    OpenVideo,
    ResizeShortSide,
    SampleKeyFrameClip,
)
from .tube_datasets import JHMDBDataset, UCF101_24Dataset

__all__ = [
    'AVAKeyFrameDataset',
    'ClipBoxes',
    'DecodeVideoClip',
    'FlipClip',
    'JHMDBDataset',
    'LoadClipFrames',
    'OpenVideo',
    'ResizeShortSide',
    'SampleKeyFrameClip',
    'UCF101_24Dataset',
]
