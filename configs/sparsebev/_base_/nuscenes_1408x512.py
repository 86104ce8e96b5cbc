# Twice the resolution of the data set's base file.
_base_ = '../../_base_/datasets/nuscenes_multiview.py'

crop_size = (512, 1408)
train_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=8),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='ObjectRangeFilter', point_cloud_range=_base_.point_cloud_range),
    dict(type='ObjectNameFilter', classes=_base_.class_names),
    dict(type='ResizeCropFlipImages', crop_size=crop_size, ratio_range=(0.76, 1.10)),
    dict(type='RotateScaleScene', rot_range=(-0.3925, 0.3925), scale_ratio_range=(0.95, 1.05)),
    dict(type='Pack3DDetInputs', keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=_base_.meta_keys),
]
test_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=8, test_mode=True),
    dict(type='ResizeCropFlipImages', crop_size=crop_size),
    dict(type='Pack3DDetInputs', keys=['img'], meta_keys=_base_.meta_keys),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
