# Only the first six of the third stage's 23 blocks convolve in time; non-local blocks follow three of them.
_base_ = './stmixer_slowfast-r50.py'

third_stage = (1,) * 6 + (0,) * 17
model = dict(
    backbone=dict(
        non_local_blocks=(6, 13, 20),
        slow_pathway=dict(depth=101, fusion_kernel=5, inflate=((0,) * 3, (0,) * 4, third_stage, (1,) * 3)),
        fast_pathway=dict(depth=101, inflate=((1,) * 3, (1,) * 4, third_stage, (1,) * 3)),
        pretrained='checkpoints/SLOWFAST_32x2_R101_50_50.pkl',
    )
)
