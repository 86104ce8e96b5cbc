"""NuScenes-lidarseg, which mmdet3d 1.4 has no data set for."""

from __future__ import annotations

import numpy as np
from mmdet3d.datasets import Seg3DDataset
from mmdet3d.registry import DATASETS

from mvbench_plugins.common.naming import naming

# The 32 categories of nuScenes-lidarseg to the 16 of its challenge, 0 is ignored.
_CHALLENGE = (
    0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0,
)  # fmt: skip
_NUM_CLASSES = 16


@DATASETS.register_module()
class NuScenesLidarSegDataset(Seg3DDataset):
    """Key frames of nuScenes with the 16 classes of the lidarseg challenge.

    Reads the info files of the stock ``create_data.py nuscenes``, made with the lidarseg tables in place. Class c is
    number c + 1 of the challenge; whatever it ignores is ``ignore_index`` 16.

    Args:
        metainfo: as in :class:`~mmdet3d.datasets.Seg3DDataset`.
        kwargs: its further arguments.
    """

    METAINFO = {
        'classes': (
            'barrier', 'bicycle', 'bus', 'car', 'construction_vehicle', 'motorcycle', 'pedestrian', 'traffic_cone',
            'trailer', 'truck', 'driveable_surface', 'other_flat', 'sidewalk', 'terrain', 'manmade', 'vegetation',
        ),
        'palette': [
            [112, 128, 144], [220, 20, 60], [255, 127, 80], [255, 158, 0], [233, 150, 70], [255, 61, 99], [0, 0, 230],
            [47, 79, 79], [255, 140, 0], [255, 99, 71], [0, 207, 191], [175, 0, 75], [75, 0, 75], [112, 180, 60],
            [222, 184, 135], [0, 175, 0],
        ],
        'seg_valid_class_ids': tuple(range(_NUM_CLASSES)),
        'seg_all_class_ids': tuple(range(_NUM_CLASSES)),
    }  # fmt: skip

    def __init__(self, metainfo: dict | None = None, **kwargs) -> None:
        super().__init__(metainfo=dict(metainfo or {}), **{'ignore_index': _NUM_CLASSES, **kwargs})

    def load_data_list(self) -> list[dict]:
        """Read the info file.

        Raises:
            ValueError: it is damaged or of another kind.
        """
        with naming(self.ann_file, "expected an info file of mmdet3d's create_data.py nuscenes"):
            return super().load_data_list()

    def get_seg_label_mapping(self, metainfo: dict | None = None) -> np.ndarray:
        """Class of each of the 32 categories ``[32]``."""
        challenge = np.array(_CHALLENGE, dtype=np.int64)
        return np.where(challenge == 0, self.ignore_index, challenge - 1)
