# cos:(3x5)^3
_base_ = ['./_base_/linkencoder_seg.py', './_base_/semantickitti_seg.py', './_base_/schedule_seg_25e.py']

model = dict(backbone=dict(mode='cos', block_size=5, num_blocks=3, groups=2))
