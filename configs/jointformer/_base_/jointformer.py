# ConvMAE-B with joint blocks and one compressed token per object; how videos are tested frame by frame.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(
    imports=['mvbench_plugins.jointformer', 'mvbench_plugins.apis.vos_hook'], allow_failed_imports=False
)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=10000, max_keep_ckpts=2), visualization=dict(type='VOSVisualizationHook')
)
log_processor = dict(by_epoch=False)

embed_dims = (256, 384, 768)
model = dict(
    type='JointFormer',
    data_preprocessor=dict(
        type='VOSDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], test_size=480
    ),
    backbone=dict(
        type='JointConvMAE',
        embed_dims=embed_dims,
        depths=(2, 2, 11),
        num_heads=12,
        mlp_ratio=4,
        token_depth=2,
        enhance_depth=1,
        pos_grid=24,
        mask_channels=2,
    ),
    mask_head=dict(type='JointFormerMaskHead', embed_dims=embed_dims),
    loss_ce=dict(type='BootstrappedCrossEntropy', start=20000, end=70000, ratio=0.15, loss_weight=1.0),
    loss_dice=dict(type='SlotDiceLoss', loss_weight=1.0),
    train_cfg=dict(num_slots=3, num_ref_frames=2, token_update_prob=0.6),
    # Every fifth frame may stay in memory; with one frame that is the first one, beside which the last one is read.
    test_cfg=dict(
        mem_every=5,
        max_memory_frames=1,
        topk=dict(k=60, scope='all_frames', blocks='all_blocks', token=False),
        with_instances=False,
    ),
)

test_pipeline = [
    dict(type='TransformBroadcaster', transforms=[dict(type='LoadVOSFrame'), dict(type='LoadVOSMask')]),
    dict(type='PackVOSInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    # All frames of a video in order, and on one GPU.
    sampler=dict(type='TrackImgSampler'),
    dataset=dict(test_mode=True, pipeline=test_pipeline),
)
test_cfg = dict(type='TestLoop')
