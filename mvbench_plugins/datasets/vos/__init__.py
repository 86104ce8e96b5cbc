"""Data sets and transforms of video object segmentation, registered in mmdet."""

from .benchmarks import (
    BURSTDataset,
    DAVISDataset,
    LVOSDataset,
    MOSEDataset,
    VISORDataset,
    VOSTDataset,
    YouTubeVOSDataset,
)
from .clip_sample import RepeatStaticImage, VOSClipSample
from .colour import RandomVOSColorJitter
from .geometry import RandomThinPlateSpline, RandomVOSAffine, RandomVOSResizedCrop
from .index_masks import VOID, object_labels, read_index_mask
from .loading import LoadVOSFrame, LoadVOSMask
from .objects import BinariseVOSMask, PackVOSInputs, SelectVOSObjects
from .static_images import StaticVOSDataset
from .video_dataset import VOSDataset

__all__ = [
    'VOID',
    'BURSTDataset',
    'BinariseVOSMask',
    'DAVISDataset',
    'LVOSDataset',
    'LoadVOSFrame',
    'LoadVOSMask',
    'MOSEDataset',
    'PackVOSInputs',
    'RandomThinPlateSpline',
    'RandomVOSAffine',
    'RandomVOSColorJitter',
    'RandomVOSResizedCrop',
    'RepeatStaticImage',
    'SelectVOSObjects',
    'StaticVOSDataset',
    'VISORDataset',
    'VOSClipSample',
    'VOSDataset',
    'VOSTDataset',
    'YouTubeVOSDataset',
    'object_labels',
    'read_index_mask',
]
