# Stage 2 after stage 0.
_base_ = './jointformer_s2_6xb2-160k_davis17-ytvos19.py'

model = dict(backbone=dict(init_cfg=None))
load_from = 'checkpoints/jointformer_s0.pth'
