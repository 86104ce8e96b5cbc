# Toy drives: python tools/make_toy_data.py nuscenes --out data/toy_nuscenes, then
# python tools/create_nuscenes_sweeps.py --root-path data/toy_nuscenes. Images of 320x180 become 256x96.
_base_ = './nuscenes_multiview.py'

data_root = 'data/toy_nuscenes/'

train_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=2),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='ObjectRangeFilter', point_cloud_range=_base_.point_cloud_range),
    dict(type='ObjectNameFilter', classes=_base_.class_names),
    dict(type='ResizeCropFlipImages', crop_size=(96, 256), ratio_range=(0.7, 1.0)),
    dict(type='RotateScaleScene', rot_range=(-0.3925, 0.3925), scale_ratio_range=(0.95, 1.05)),
    dict(type='Pack3DDetInputs', keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=_base_.meta_keys),
]
test_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=2, test_mode=True),
    dict(type='ResizeCropFlipImages', crop_size=(96, 256)),
    dict(type='Pack3DDetInputs', keys=['img'], meta_keys=_base_.meta_keys),
]

train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root, ann_file=data_root + 'nuscenes_multiview_infos_val.pkl')
test_evaluator = val_evaluator
