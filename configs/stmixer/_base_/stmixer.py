# What all configs share: preprocessing, the decoder with 100 queries and six stages, matching and losses.
_base_ = 'mmaction::_base_/default_runtime.py'

custom_imports = dict(imports=['mvbench_plugins.stmixer'], allow_failed_imports=False)

model = dict(
    type='STMixer',
    data_preprocessor=dict(
        type='ClipDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3, pad_size_divisor=32
    ),  # 0.45 and 0.225 of 255
    head=dict(
        type='STMixerHead',
        num_classes=80,
        num_frames=8,
        num_queries=100,
        num_stages=6,
        strides=(4, 8, 16, 32),
        stage=dict(
            embed_dims=256,
            num_heads=8,
            num_points=32,
            num_groups=4,
            out_multiplier=4,
            feedforward_channels=2048,
        ),
        assigner=dict(
            type='mmdet.HungarianAssigner',
            match_costs=[
                dict(type='mmdet.ClassificationCost', weight=2.0),
                dict(type='mmdet.BBoxL1Cost', weight=2.0, box_format='xyxy'),
                dict(type='mmdet.IoUCost', iou_mode='giou', weight=2.0),
            ],
        ),
        loss_person=dict(type='mmdet.CrossEntropyLoss', class_weight=[1.0, 0.1], loss_weight=2.0),
        loss_action=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=24.0),
        loss_bbox=dict(type='mmdet.L1Loss', loss_weight=2.0),
        loss_giou=dict(type='mmdet.GIoULoss', loss_weight=2.0),
        test_cfg=dict(person_score_thr=0.6, fallback_topk=3),
    ),
)
