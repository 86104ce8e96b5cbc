# ResNet-50, 8 frames, 900 queries; one decoder layer that all six stages share.
_base_ = 'mmdet3d::_base_/default_runtime.py'

custom_imports = dict(
    imports=['mvbench_plugins.sparsebev', 'mvbench_plugins.apis.multiview_hook'], allow_failed_imports=False
)
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=2), visualization=dict(type='MultiViewVisualizationHook')
)

pc_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
embed_dims = 256
model = dict(
    type='SparseBEV',
    data_preprocessor=dict(
        type='SparseBEVDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        color_augmentation=True,
        grid_mask_prob=0.7,
    ),
    img_backbone=dict(
        type='mmdet.ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        style='pytorch',
        with_cp=True,
        # A Cascade Mask R-CNN of nuImages, of which only the backbone is taken.
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmdetection3d/v0.1.0_models/nuimages_semseg/'
            'cascade_mask_rcnn_r50_fpn_coco-20e_20e_nuim/'
            'cascade_mask_rcnn_r50_fpn_coco-20e_20e_nuim_20201009_124951-40963960.pth',
            prefix='backbone.',
        ),
    ),
    img_neck=dict(type='mmdet.FPN', in_channels=[256, 512, 1024, 2048], out_channels=embed_dims, num_outs=4),
    num_grad_frames=None,
    pts_bbox_head=dict(
        type='SparseBEVHead',
        num_classes=10,
        in_channels=embed_dims,
        num_query=900,
        pc_range=pc_range,
        num_frames=8,
        num_levels=4,
        num_points=4,
        num_groups=4,
        num_decoder_layers=6,
        num_heads=8,
        feedforward_channels=512,
        dropout=0.1,
        with_cp=True,
        level_weight_order='released',
        denoising=dict(num_groups=10, center_noise_scale=0.5, label_noise_ratio=0.5),
        bbox_coder=dict(
            type='SparseBEVBoxCoder',
            pc_range=pc_range,
            post_center_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0],
            max_num=300,
            score_threshold=0.05,
        ),
        code_weights=[2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        loss_cls=dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='mmdet.L1Loss', loss_weight=0.25),
    ),
    train_cfg=dict(
        assigner=dict(type='SparseBEVAssigner', cls_cost=dict(type='mmdet.FocalLossCost', weight=2.0), reg_weight=0.25)
    ),
    test_cfg=dict(online=False, frames_at_once=None),
)
