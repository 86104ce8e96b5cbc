# Official cr 0.5.
_base_ = './linkunet_cosx-2x3_4xb2-25e_semantickitti-seg.py'

model = dict(backbone=dict(channels=32), decode_head=dict(channels=32))
