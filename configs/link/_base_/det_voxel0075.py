# CenterPoint with LinK's encoder on voxels of 0.075 m: cos:(3x7)^3, 21 voxels wide at every level.
_base_ = 'mmdet3d::_base_/default_runtime.py'

custom_imports = dict(
    imports=['mvbench_plugins.link', 'mvbench_plugins.apis.lidar_visualizer'], allow_failed_imports=False
)
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=2),
    visualization=dict(vis_task='lidar_det'),
    sweeps=dict(type='MissingSweepsHook'),
)

point_cloud_range = [-54.0, -54.0, -5.0, 54.0, 54.0, 3.0]
voxel_size = [0.075, 0.075, 0.2]
grid_size = [1440, 1440, 40]
out_size_factor = 8
post_center_range = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]
norm_cfg = dict(type='BN', eps=1e-3, momentum=0.01)
model = dict(
    type='LinKCenterPoint',
    data_preprocessor=dict(
        type='VoxelDetDataPreprocessor',
        num_features=5,
        voxel_layer=dict(
            max_num_points=10,
            voxel_size=voxel_size,
            max_voxels=(120000, 160000),
            point_cloud_range=point_cloud_range,
        ),
    ),
    pts_voxel_encoder=dict(type='HardSimpleVFE', num_features=5),
    pts_middle_encoder=dict(
        type='LinKSparseEncoder',
        in_channels=5,
        sparse_shape=[grid_size[2] + 1, grid_size[1], grid_size[0]],
        channels=(16, 32, 64, 128),
        output_channels=128,
        linear_kernel=dict(mode='cos', block_size=7, num_blocks=3),
        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01),
    ),
    pts_backbone=dict(
        type='SECOND',
        in_channels=256,
        out_channels=[128, 256],
        layer_nums=[5, 5],
        layer_strides=[1, 2],
        norm_cfg=norm_cfg,
        conv_cfg=dict(type='Conv2d', bias=False),
    ),
    pts_neck=dict(
        type='SECONDFPN',
        in_channels=[128, 256],
        out_channels=[256, 256],
        upsample_strides=[1, 2],
        norm_cfg=norm_cfg,
        upsample_cfg=dict(type='deconv', bias=False),
        use_conv_for_no_stride=True,
        init_cfg=[],  # start as torch does
    ),
    pts_bbox_head=dict(
        type='LinKCenterHead',
        in_channels=512,
        tasks=[
            dict(num_class=1, class_names=['car']),
            dict(num_class=2, class_names=['truck', 'construction_vehicle']),
            dict(num_class=2, class_names=['bus', 'trailer']),
            dict(num_class=1, class_names=['barrier']),
            dict(num_class=2, class_names=['motorcycle', 'bicycle']),
            dict(num_class=2, class_names=['pedestrian', 'traffic_cone']),
        ],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
        share_conv_channel=64,
        bias=True,
        bbox_coder=dict(
            type='OneClassPerCellCoder',
            pc_range=point_cloud_range[:2],
            out_size_factor=out_size_factor,
            voxel_size=voxel_size[:2],
            post_center_range=post_center_range,
            score_threshold=0.1,
            code_size=9,
        ),
        separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3, bias=True),
        loss_cls=dict(type='SlotFocalLoss'),
        loss_bbox=dict(type='mmdet.L1Loss', reduction='mean', loss_weight=0.25),
        norm_bbox=True,
    ),
    train_cfg=dict(
        pts=dict(
            point_cloud_range=point_cloud_range,
            grid_size=grid_size,
            voxel_size=voxel_size,
            out_size_factor=out_size_factor,
            dense_reg=1,
            gaussian_overlap=0.1,
            max_objs=500,
            min_radius=2,
            # x, y, z, sizes, sin and cos of the yaw, and the velocity
            code_weights=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2],
        )
    ),
    test_cfg=dict(
        pts=dict(
            post_center_limit_range=post_center_range,
            score_threshold=0.1,
            nms_type='rotate',
            pre_max_size=1000,
            post_max_size=83,
            nms_thr=0.2,
        )
    ),
)
