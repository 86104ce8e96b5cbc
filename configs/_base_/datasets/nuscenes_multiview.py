# nuScenes for six cameras and eight frames at 704x256. Info files: python tools/create_nuscenes_sweeps.py
# --root-path data/nuscenes
data_root = 'data/nuscenes/'
class_names = [
    'car',
    'truck',
    'construction_vehicle',
    'bus',
    'trailer',
    'barrier',
    'motorcycle',
    'bicycle',
    'pedestrian',
    'traffic_cone',
]
metainfo = dict(classes=class_names)
point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
meta_keys = [
    'img_path',
    'img_timestamp',
    'img_shape',
    'ori_shape',
    'lidar2img',
    'token',
    'sample_idx',
    'scene_token',
    'box_type_3d',
    'box_mode_3d',
]

train_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=8),
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectNameFilter', classes=class_names),
    dict(type='ResizeCropFlipImages', crop_size=(256, 704), ratio_range=(0.38, 0.55)),
    dict(type='RotateScaleScene', rot_range=(-0.3925, 0.3925), scale_ratio_range=(0.95, 1.05)),
    dict(type='Pack3DDetInputs', keys=['img', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=8, test_mode=True),
    dict(type='ResizeCropFlipImages', crop_size=(256, 704)),
    dict(type='Pack3DDetInputs', keys=['img'], meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='MultiFrameNuScenesDataset',
        data_root=data_root,
        ann_file='nuscenes_multiview_infos_train.pkl',
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
# In the order of time, one sample at a time: tests that remember past frames need it.
val_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='MultiFrameNuScenesDataset',
        data_root=data_root,
        ann_file='nuscenes_multiview_infos_val.pkl',
        metainfo=metainfo,
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='NuScenesDetectionMetric',
    data_root=data_root,
    ann_file=data_root + 'nuscenes_multiview_infos_val.pkl',
    metric='bbox',
    # What a submission says of itself; the metric's default is LiDAR.
    modality=dict(use_camera=True, use_lidar=False, use_radar=False, use_map=False, use_external=False),
)
test_evaluator = val_evaluator
