_base_ = './stmixer.py'

sync_bn = 'torch'  # two clips per GPU are few for statistics
model = dict(
    backbone=dict(
        type='MultiScaleSlowFast',
        speed_ratio=4,
        channel_ratio=8,
        slow_pathway=dict(
            type='resnet3d',
            depth=50,
            pretrained=None,
            lateral=True,
            lateral_norm=True,
            fusion_kernel=7,
            conv1_kernel=(1, 7, 7),
            conv1_stride_t=1,
            pool1_stride_t=1,
            with_pool2=False,
            inflate=(0, 0, 1, 1),
            spatial_strides=(1, 2, 2, 2),
        ),
        fast_pathway=dict(
            type='resnet3d',
            depth=50,
            pretrained=None,
            lateral=False,
            base_channels=8,
            conv1_kernel=(5, 7, 7),
            conv1_stride_t=1,
            pool1_stride_t=1,
            with_pool2=False,
            inflate=(1, 1, 1, 1),
            spatial_strides=(1, 2, 2, 2),
        ),
        pretrained='checkpoints/SLOWFAST_8x8_R50.pkl',
    ),
    neck=dict(type='ChannelMapper3d', in_channels=[288, 576, 1152, 2304], out_channels=256),
    head=dict(num_frames=8),
)
