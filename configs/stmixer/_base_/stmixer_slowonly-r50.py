_base_ = './stmixer.py'

model = dict(
    backbone=dict(
        type='ResNet3dSlowOnly',
        depth=50,
        lateral=False,
        out_indices=(0, 1, 2, 3),
        conv1_kernel=(1, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
        inflate=(0, 0, 1, 1),
        spatial_strides=(1, 2, 2, 2),
        norm_eval=True,
        pretrained2d=False,
        pretrained='checkpoints/SLOWONLY_4x16_R50.pkl',
    ),
    neck=dict(type='ChannelMapper3d', in_channels=[256, 512, 1024, 2048], out_channels=256),
    head=dict(num_frames=4),
)
