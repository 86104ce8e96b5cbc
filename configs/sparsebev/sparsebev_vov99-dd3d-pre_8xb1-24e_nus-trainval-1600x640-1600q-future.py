_base_ = [
    './_base_/sparsebev_vov99_future.py',
    './_base_/schedule_24e.py',
    './_base_/nuscenes-trainval_1600x640_future.py',
]
