"""Key-frame data sets and transforms of action detection, registered in mmaction."""

from .ava import AVAKeyFrameDataset
from .person_boxes import PersonBoxes, read_person_boxes
from .person_dataset import AVAPersonDataset
from .person_transforms import ClipHSVJitter, PackPersonInputs, RandomClipCrop, ResizeShortSideTruncated
from .second_clips import LoadSecondClips
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
    'AVAPersonDataset',
    'ClipBoxes',
    'ClipHSVJitter',
    'DecodeVideoClip',
    'FlipClip',
    'JHMDBDataset',
    'LoadClipFrames',
    'LoadSecondClips',
    'OpenVideo',
    'PackPersonInputs',
    'PersonBoxes',
    'RandomClipCrop',
    'ResizeShortSide',
    'ResizeShortSideTruncated',
    'SampleKeyFrameClip',
    'UCF101_24Dataset',
    'read_person_boxes',
]
