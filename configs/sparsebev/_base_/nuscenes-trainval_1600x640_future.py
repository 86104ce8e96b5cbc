# 15 frames, seven of them later than the key frame, at 1600x640. Trained on both splits, as for the test server: the
# validation split says nothing about such a model.
_base_ = '../../_base_/datasets/nuscenes_multiview.py'

crop_size = (640, 1600)
train_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=15, order='future'),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='ObjectRangeFilter', point_cloud_range=_base_.point_cloud_range),
    dict(type='ObjectNameFilter', classes=_base_.class_names),
    dict(type='ResizeCropFlipImages', crop_size=crop_size, ratio_range=(0.94, 1.25)),
    dict(type='RotateScaleScene', rot_range=(-0.3925, 0.3925), scale_ratio_range=(0.95, 1.05)),
    dict(type='Pack3DDetInputs', keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=_base_.meta_keys),
]
test_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=15, order='future', test_mode=True),
    dict(type='ResizeCropFlipImages', crop_size=crop_size),
    dict(type='Pack3DDetInputs', keys=['img'], meta_keys=_base_.meta_keys),
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                type='MultiFrameNuScenesDataset',
                data_root=_base_.data_root,
                ann_file=f'nuscenes_multiview_infos_{split}.pkl',
                metainfo=_base_.metainfo,
                pipeline=train_pipeline,
            )
            for split in ('train', 'val')
        ],
    )
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
