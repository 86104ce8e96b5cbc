_base_ = './cycleacr_vit-b.py'

model = dict(
    backbone=dict(
        embed_dims=1024,
        depth=24,
        num_heads=16,
        init_cfg=dict(checkpoint='checkpoints/vit_l_k700_videomae.pth'),
    ),
    head=dict(in_channels=1024),
)
