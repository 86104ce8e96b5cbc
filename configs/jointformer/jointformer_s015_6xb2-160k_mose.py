# Stage 5 after stages 0 and 1.
_base_ = './jointformer_s5_6xb2-160k_mose.py'

model = dict(backbone=dict(init_cfg=None))
load_from = 'checkpoints/jointformer_s01.pth'
