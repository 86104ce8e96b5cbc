_base_ = ['./_base_/det_voxel01.py', './_base_/det_schedule_20e.py', './_base_/det_nuscenes.py']

augment = [
    dict(step, point_cloud_range=_base_.point_cloud_range) if step['type'] == 'ObjectCornerRangeFilter' else step
    for step in _base_.augment
]
train_pipeline = [*_base_.load_key_frame, _base_.load_sweeps, _base_.load_annotations, _base_.paste_objects, *augment]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
