_base_ = [
    './_base_/sparsebev_r50.py',
    './_base_/schedule_36e.py',
    '../_base_/datasets/nuscenes_multiview.py',
]

model = dict(pts_bbox_head=dict(num_query=400))
