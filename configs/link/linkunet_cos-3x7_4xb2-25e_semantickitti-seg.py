# cos:(3x7)^3. The official file is not released; two channels share a phase in those that are.
_base_ = ['./_base_/linkunet_seg.py', './_base_/semantickitti_seg.py', './_base_/schedule_seg_25e.py']

model = dict(backbone=dict(mode='cos', block_size=7, num_blocks=3, groups=2))
