# Stage 7 after stage 0.
_base_ = './jointformer_s7_6xb2-160k_visor.py'

model = dict(backbone=dict(init_cfg=None))
load_from = 'checkpoints/jointformer_s0.pth'
