# What the equilibrium decoder and the untied baseline share: preprocessing, ResNet-50, neck, 100 queries, one layer.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mvbench_plugins.deqdet'], allow_failed_imports=False)

decoder_layer = dict(
    type='AdaMixerHead',
    num_classes=80,
    content_dim=256,
    feat_channels=256,
    in_points=64,
    out_points=128,
    n_groups=4,
    num_heads=8,
    feedforward_channels=2048,
    num_cls_fcs=1,
    num_reg_fcs=1,
    loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
    loss_bbox=dict(type='L1Loss', loss_weight=5.0),
    loss_iou=dict(type='GIoULoss', loss_weight=2.0),
)
model = dict(
    type='DEQDet',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(
        type='ChannelMapperWithGN', in_channels=[256, 512, 1024, 2048], out_channels=256, kernel_size=3, num_outs=4
    ),
    rpn_head=dict(type='FixPositionEmbeddingRPNHead', num_proposals=100, proposal_feature_channel=256),
    train_cfg=dict(
        rpn=None,
        rcnn=dict(
            assigner=dict(
                type='HungarianAssigner',
                match_costs=[
                    dict(type='FocalLossCost', weight=2.0),
                    dict(type='BBoxL1Cost', weight=5.0, box_format='xyxy'),
                    dict(type='IoUCost', iou_mode='giou', weight=2.0),
                ],
            ),
            sampler=dict(type='PseudoSampler'),
            pos_weight=1,
        ),
    ),
    test_cfg=dict(rpn=None, rcnn=dict(max_per_img=100)),
)
