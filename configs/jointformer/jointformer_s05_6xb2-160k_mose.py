# Stage 5 after stage 0.
_base_ = './jointformer_s5_6xb2-160k_mose.py'

model = dict(backbone=dict(init_cfg=None))
load_from = 'checkpoints/jointformer_s0.pth'
