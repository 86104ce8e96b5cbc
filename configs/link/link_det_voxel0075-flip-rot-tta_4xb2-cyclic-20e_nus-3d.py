# Test with seven rotations of four mirrored views: maps are averaged over the flips, boxes united over the rotations.
_base_ = './link_det_voxel0075-flip-tta_4xb2-cyclic-20e_nus-3d.py'

degrees = (6.25, -6.25, 12.5, -12.5, 25.0, -25.0, 0.0)
rotated = [
    dict(
        type='GlobalRotScaleTrans',
        rot_range=[angle * 3.141592653589793 / 180] * 2,
        scale_ratio_range=[1.0, 1.0],
        translation_std=[0.0, 0.0, 0.0],
    )
    for angle in degrees
]
test_pipeline = [
    *_base_.load_key_frame,
    dict(_base_.load_sweeps, test_mode=True),
    dict(type='TestTimeAug', transforms=[rotated, _base_.mirrored, [dict(type='Pack3DDetInputs', keys=['points'])]]),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
