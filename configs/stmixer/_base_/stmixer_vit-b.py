_base_ = './stmixer.py'

model = dict(
    backbone=dict(
        type='VideoVisionTransformer',
        img_size=224,
        patch_size=16,
        embed_dims=768,
        depth=12,
        num_heads=12,
        mlp_ratio=4,
        num_frames=16,
        tubelet_size=2,
        drop_path_rate=0.2,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vit_b_k400_videomae.pth'),
    ),
    neck=dict(type='SimplePyramid3d', in_channels=768, out_channels=256),
    head=dict(num_frames=8),
)
