# LinKUNet, cos_x:(2x3)^3, for SemanticKITTI's 19 classes and one output for unlabelled points.
_base_ = 'mmdet3d::_base_/default_runtime.py'

custom_imports = dict(
    imports=['mvbench_plugins.link', 'mvbench_plugins.apis.lidar_visualizer'], allow_failed_imports=False
)
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=2, save_best='miou', rule='greater'),
    visualization=dict(vis_task='lidar_seg'),
)

model = dict(
    type='LinKSegmentor',
    data_preprocessor=dict(type='VoxelSegDataPreprocessor', voxel_size=0.05, max_voxels=80000, num_features=4),
    backbone=dict(type='LinKUNet', in_channels=4, channels=64, mode='cos_x', block_size=3, num_blocks=2, groups=1),
    decode_head=dict(
        type='LinKUNetHead',
        channels=64,
        num_classes=20,
        ignore_index=19,
        loss_decode=dict(type='mmdet.CrossEntropyLoss', avg_non_ignore=True, loss_weight=1.0),
        loss_lovasz=dict(type='LovaszLoss', loss_weight=1.0, reduction='none'),
    ),
    train_cfg=dict(),
    test_cfg=dict(),
)
