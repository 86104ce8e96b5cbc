_base_ = [
    './_base_/sparsebev_r50.py',
    './_base_/schedule_24e.py',
    '../_base_/datasets/nuscenes_multiview.py',
]
