# Test with four mirrored views of each sample, whose maps are averaged.
_base_ = './link_det_voxel0075_4xb2-cyclic-20e_nus-3d.py'

mirrored = [
    dict(type='RandomFlip3D', sync_2d=False, flip_ratio_bev_horizontal=y, flip_ratio_bev_vertical=x)
    for x in (0.0, 1.0)
    for y in (0.0, 1.0)
]
test_pipeline = [
    *_base_.load_key_frame,
    dict(_base_.load_sweeps, test_mode=True),
    dict(type='TestTimeAug', transforms=[mirrored, [dict(type='Pack3DDetInputs', keys=['points'])]]),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
# Overlaps above which boxes of a class suppress each other when several rotations are united, in the order of the classes.
nms_thresholds = [0.1, 0.1, 0.1, 0.25, 0.1, 0.1, 0.1, 0.15, 0.1, 0.05]
tta = dict(type='PrepareTTAHook', tta_cfg=dict(type='LinKCenterPointTTA', nms_thresholds=nms_thresholds))
custom_hooks = [*_base_.custom_hooks, tta]
