# Key frames of nuScenes-lidarseg for segmentation. Info files: mmdet3d's own create_data.py nuscenes, made with
# the lidarseg tables in place.
dataset_type = 'NuScenesLidarSegDataset'
data_root = 'data/nuscenes/'
class_names = [
    'barrier',
    'bicycle',
    'bus',
    'car',
    'construction_vehicle',
    'motorcycle',
    'pedestrian',
    'traffic_cone',
    'trailer',
    'truck',
    'driveable_surface',
    'other_flat',
    'sidewalk',
    'terrain',
    'manmade',
    'vegetation',
]
metainfo = dict(classes=class_names)
data_prefix = dict(
    pts='samples/LIDAR_TOP',
    pts_semantic_mask='lidarseg/v1.0-trainval',
)
load_pipeline = [
    dict(type='CheckPointFile', load_dim=5),
    dict(type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=4),
    dict(type='CheckLabelFile', known_ids=list(range(32)), dtype='uint8'),
    dict(
        type='LoadAnnotations3D',
        with_bbox_3d=False,
        with_label_3d=False,
        with_seg_3d=True,
        seg_3d_dtype='np.uint8',
        dataset_type='nuscenes',
    ),
    dict(type='PointSegClassMapping'),
]
train_pipeline = [
    *load_pipeline,
    dict(type='GlobalRotScaleTrans', rot_range=[0.0, 6.28318531], scale_ratio_range=[0.95, 1.05]),
    # None, x, y or both, each in a quarter of the cases.
    dict(type='RandomFlip3D', sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    dict(type='Pack3DDetInputs', keys=['points', 'pts_semantic_mask']),
]
test_pipeline = [*load_pipeline, dict(type='Pack3DDetInputs', keys=['points', 'pts_semantic_mask'])]

train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='nuscenes_infos_train.pkl',
        data_prefix=data_prefix,
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='nuscenes_infos_val.pkl',
        data_prefix=data_prefix,
        metainfo=metainfo,
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='UnlabelledSegMetric')
test_evaluator = val_evaluator

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='LidarPictureVisualizer', ahead='y', vis_backends=vis_backends, name='visualizer')
