# The baseline: the same network with 3x3x3 convolutions in the place of LinK's blocks.
_base_ = './link_det_toy.py'

model = dict(pts_middle_encoder=dict(linear_kernel=None))
