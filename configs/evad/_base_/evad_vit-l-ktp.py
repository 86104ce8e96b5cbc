# ViT-L: twice as deep, encoder and refinement, and half the weight of each action loss.
_base_ = './evad_vit-b.py'

model = dict(
    backbone=dict(
        keep_rate=0.7,
        prune_blocks=(6, 12, 18),
        out_indices=(5, 11, 17, 23),
        embed_dims=1024,
        depth=24,
        num_heads=16,
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='checkpoints/vit_l_k700_videomae.pth'),
    ),
    neck=dict(in_channels=[1024] * 4),
    head=dict(
        refinement=dict(in_channels=1024, embed_dims=512, depth=12, num_heads=8, extend=(0.4, 0.2)),
        loss_action=dict(loss_weight=6.0),
    ),
)
