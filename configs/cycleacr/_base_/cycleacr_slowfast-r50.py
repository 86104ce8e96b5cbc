# Norms are frozen; the third pool-free stage keeps stride 16, the last one is dilated.
_base_ = './cycleacr.py'

_pathway = dict(
    type='resnet3d',
    depth=50,
    pretrained=None,
    conv1_stride_t=1,
    pool1_stride_t=1,
    with_pool2=False,
    spatial_strides=(1, 2, 2, 1),
    dilations=(1, 1, 1, 2),
    norm_cfg=dict(type='BN3d', requires_grad=False),
    norm_eval=True,
)
model = dict(
    backbone=dict(
        type='AlphActionSlowFast',
        tau=8,
        speed_ratio=8,
        channel_ratio=8,
        slow_pathway=dict(**_pathway, lateral=True, fusion_kernel=5, conv1_kernel=(1, 7, 7), inflate=(0, 0, 1, 1)),
        fast_pathway=dict(**_pathway, lateral=False, base_channels=8, conv1_kernel=(5, 7, 7), inflate=(1, 1, 1, 1)),
        pretrained='checkpoints/slowfast_r50_alphaction.pth',
    ),
    head=dict(
        in_channels=2304,
        num_frames=32,
        depth=2,
        instance_depth=2,
        loss=dict(
            type='GroupedFocalLoss',
            groups=[('pose', 14, 1.2), ('object_interaction', 49, 49.0), ('person_interaction', 17, 17.0)],
        ),
    ),
    train_cfg=dict(max_persons=10),
)
