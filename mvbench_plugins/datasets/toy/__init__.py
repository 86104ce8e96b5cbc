"""A small deterministic world of coloured solids, written in the formats of real data sets.

One scene model, still (:mod:`shapes`, :mod:`scene`, :mod:`random_scene`) and over time (:mod:`actions`,
:mod:`video_scene`, :mod:`random_video`, :mod:`random_crossing`), one of streets in three dimensions (``driving_*``),
and one writer per format (:mod:`coco`, :mod:`ava`, :mod:`tubes`, :mod:`davis`, :mod:`nuscenes`,
:mod:`semantic_kitti`). Needs NumPy, OpenCV and Pillow only, so data can be made before any toolbox is installed.
"""

from mvbench_plugins.datasets.toy.actions import ACTIONS
from mvbench_plugins.datasets.toy.ava import write_ava
from mvbench_plugins.datasets.toy.coco import write_coco
from mvbench_plugins.datasets.toy.davis import write_davis
from mvbench_plugins.datasets.toy.nuscenes import write_nuscenes
from mvbench_plugins.datasets.toy.random_scene import random_scene
from mvbench_plugins.datasets.toy.random_video import random_video
from mvbench_plugins.datasets.toy.scene import Scene, Solid
from mvbench_plugins.datasets.toy.semantic_kitti import write_semantic_kitti
from mvbench_plugins.datasets.toy.shapes import CLASSES, PALETTE
from mvbench_plugins.datasets.toy.tubes import JHMDB, UCF101_24, write_tubes

__all__ = [
    'ACTIONS',
    'CLASSES',
    'JHMDB',
    'PALETTE',
    'UCF101_24',
    'Scene',
    'Solid',
    'random_scene',
    'random_video',
    'write_ava',
    'write_coco',
    'write_davis',
    'write_nuscenes',
    'write_semantic_kitti',
    'write_tubes',
]
