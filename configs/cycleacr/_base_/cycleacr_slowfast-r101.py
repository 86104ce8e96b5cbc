_base_ = './cycleacr_slowfast-r50.py'

model = dict(
    backbone=dict(
        speed_ratio=4,
        slow_pathway=dict(depth=101),
        fast_pathway=dict(depth=101),
        pretrained='checkpoints/slowfast_r101_k700_alphaction.pth',
    )
)
