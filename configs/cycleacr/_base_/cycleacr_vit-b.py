_base_ = './cycleacr.py'

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
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vit_b_videomae.pth'),
    ),
    head=dict(in_channels=768, num_frames=8, depth=1, instance_depth=1, loss=dict(type='PersonSumBCELoss')),
    train_cfg=dict(max_persons=100),
)
