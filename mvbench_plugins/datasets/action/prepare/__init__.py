"""Preparation of AVA, JHMDB and UCF101-24: extracts frames or clips where they are missing, then checks and counts."""

from .ava import prepare_ava
from .clips import prepare_ava_clips
from .report import Report
from .tubes import TUBE_LAYOUTS, prepare_tubes

__all__ = ['TUBE_LAYOUTS', 'Report', 'prepare_ava', 'prepare_ava_clips', 'prepare_tubes']
