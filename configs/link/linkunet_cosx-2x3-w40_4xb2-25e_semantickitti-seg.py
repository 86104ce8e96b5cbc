# Official cr 0.64.
_base_ = './linkunet_cosx-2x3_4xb2-25e_semantickitti-seg.py'

model = dict(backbone=dict(channels=40), decode_head=dict(channels=40))
