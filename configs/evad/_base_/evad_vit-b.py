# ViT-B: encoder, key-frame pyramid, six localisation stages, six blocks of context refinement. Keeps all tokens; the
# configs say how many of them go.
_base_ = 'mmaction::_base_/default_runtime.py'

custom_imports = dict(imports=['mvbench_plugins.evad'], allow_failed_imports=False)

num_proposals = 100
model = dict(
    type='EVAD',
    data_preprocessor=dict(
        type='ClipDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3, pad_size_divisor=32
    ),  # 0.45 and 0.225 of 255
    backbone=dict(
        type='KeyframeVisionTransformer',
        keep_rate=1.0,
        prune_blocks=(3, 6, 9),
        enhanced_weight=1.0,
        out_indices=(2, 5, 8, 11),
        img_size=224,
        patch_size=16,
        embed_dims=768,
        depth=12,
        num_heads=12,
        mlp_ratio=4,
        num_frames=16,
        tubelet_size=2,
        drop_path_rate=0.1,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vit_b_k400_videomae.pth'),
    ),
    neck=dict(
        type='KeyframeFPN',
        scales=(4, 2, 1, 0.5),
        in_channels=[768] * 4,
        out_channels=256,
        num_outs=4,
        init_cfg=dict(type='Caffe2Xavier', layer='Conv2d'),
    ),
    proposals=dict(type='mmdet.EmbeddingRPNHead', num_proposals=num_proposals, proposal_feature_channel=256),
    head=dict(
        type='EVADHead',
        num_classes=80,
        localizer=dict(
            num_stages=6,
            stage=dict(
                type='DIIHead',
                _scope_='mmdet',
                num_classes=1,
                num_heads=8,
                num_cls_fcs=1,
                num_reg_fcs=3,
                feedforward_channels=2048,
                in_channels=256,
                dropout=0.0,
                dynamic_conv_cfg=dict(
                    type='DynamicConv',
                    in_channels=256,
                    feat_channels=64,
                    out_channels=256,
                    input_feat_shape=7,
                    act_cfg=dict(type='ReLU', inplace=True),
                    norm_cfg=dict(type='LN'),
                ),
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=(0.5, 0.5, 1.0, 1.0), clip_border=False),
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
            ),
            roi_extractor=dict(
                type='SingleRoIExtractor',
                _scope_='mmdet',
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
                out_channels=256,
                featmap_strides=[4, 8, 16, 32],
                finest_scale=56,
            ),
        ),
        refinement=dict(
            in_channels=768,
            num_frames=8,
            embed_dims=384,
            depth=6,
            num_heads=6,
            hidden_dim=2048,
            drop_path_rate=0.1,
            extend=(0.0, 0.0),
            with_cp=True,
        ),
        assigner=dict(
            type='mmdet.HungarianAssigner',
            match_costs=[
                dict(type='mmdet.ClassificationCost', weight=2.0),
                dict(type='mmdet.BBoxL1Cost', weight=5.0, box_format='xyxy'),
                dict(type='mmdet.IoUCost', iou_mode='giou', weight=2.0),
            ],
        ),
        loss_person=dict(type='mmdet.CrossEntropyLoss', class_weight=[1.0, 0.1], loss_weight=2.0),
        loss_action=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=12.0),
        loss_bbox=dict(type='mmdet.L1Loss', loss_weight=5.0),
        loss_giou=dict(type='mmdet.GIoULoss', loss_weight=2.0),
        test_cfg=dict(person_score_thr=0.7),
    ),
)
