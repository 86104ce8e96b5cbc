"""A small deterministic world of coloured solids, written in the formats of real data sets.

One scene model (:mod:`shapes`, :mod:`scene`, :mod:`random_scene`), one writer per format (:mod:`coco`). Needs NumPy and
OpenCV only, so data can be made before any toolbox is installed.
"""

from mvbench_plugins.datasets.toy.coco import write_coco
from mvbench_plugins.datasets.toy.random_scene import random_scene
from mvbench_plugins.datasets.toy.scene import Scene, Solid
from mvbench_plugins.datasets.toy.shapes import CLASSES, PALETTE

__all__ = ['CLASSES', 'PALETTE', 'Scene', 'Solid', 'random_scene', 'write_coco']
