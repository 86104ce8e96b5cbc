# nuScenes with the nine sweeps before each key frame, class-balanced, with objects of other scenes pasted into each. Info
# files and the database of objects are mmdet3d's (its tools/create_data.py nuscenes).
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
data_prefix = dict(pts='samples/LIDAR_TOP', img='', sweeps='sweeps/LIDAR_TOP')
object_range = [-54.0, -54.0, -5.0, 54.0, 54.0, 3.0]

load_key_frame = [
    dict(type='CheckPointFile', load_dim=5),
    dict(type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=5),
]
load_sweeps = dict(
    type='LoadNearestSweeps',
    sweeps_num=9,
    load_dim=5,
    use_dim=[0, 1, 2, 3, 4],
    pad_empty_sweeps=True,
    remove_close=True,
)
paste_objects = dict(
    type='ObjectSampleIntoScene',
    db_sampler=dict(
        data_root=data_root,
        info_path=data_root + 'nuscenes_dbinfos_train.pkl',
        rate=1.0,
        prepare=dict(filter_by_min_points={name: 5 for name in class_names}),
        classes=class_names,
        sample_groups=dict(
            car=2,
            truck=3,
            construction_vehicle=7,
            bus=4,
            trailer=6,
            barrier=2,
            motorcycle=6,
            bicycle=6,
            pedestrian=2,
            traffic_cone=2,
        ),
        points_loader=dict(type='LoadPointsFromFile', coord_type='LIDAR', load_dim=5, use_dim=[0, 1, 2, 3, 4]),
    ),
)
augment = [
    dict(type='RandomFlip3D', sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    dict(
        type='GlobalRotScaleTrans',
        rot_range=[-0.78539816, 0.78539816],
        scale_ratio_range=[0.9, 1.1],
        translation_std=[0.5, 0.5, 0.5],
    ),
    dict(type='ObjectCornerRangeFilter', point_cloud_range=object_range),
    dict(type='ObjectNameFilter', classes=class_names),
    dict(type='PointShuffle'),
    dict(type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
]
load_annotations = dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True)
train_pipeline = [*load_key_frame, load_sweeps, load_annotations, paste_objects, *augment]
plain_train_pipeline = [*load_key_frame, load_sweeps, load_annotations, *augment]
test_pipeline = [
    *load_key_frame,
    dict(load_sweeps, test_mode=True),
    dict(type='Pack3DDetInputs', keys=['points']),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CBGSDataset',
        dataset=dict(
            type='NuScenesDataset',
            data_root=data_root,
            ann_file='nuscenes_infos_train.pkl',
            data_prefix=data_prefix,
            metainfo=metainfo,
            modality=dict(use_lidar=True, use_camera=False),
            pipeline=train_pipeline,
            use_valid_flag=True,
            box_type_3d='LiDAR',
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='NuScenesDataset',
        data_root=data_root,
        ann_file='nuscenes_infos_val.pkl',
        data_prefix=data_prefix,
        metainfo=metainfo,
        modality=dict(use_lidar=True, use_camera=False),
        pipeline=test_pipeline,
        test_mode=True,
        box_type_3d='LiDAR',
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='NuScenesDetectionMetric', data_root=data_root, ann_file=data_root + 'nuscenes_infos_val.pkl', metric='bbox'
)
test_evaluator = val_evaluator
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='LidarPictureVisualizer', ahead='y', vis_backends=vis_backends, name='visualizer')
