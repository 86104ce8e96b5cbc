# cos:(3x7)^3, the official default; the published weights of mode cos are those of cos-3x5.
_base_ = ['./_base_/linkencoder_seg.py', './_base_/semantickitti_seg.py', './_base_/schedule_seg_25e.py']

model = dict(backbone=dict(mode='cos', block_size=7, num_blocks=3, groups=2))
