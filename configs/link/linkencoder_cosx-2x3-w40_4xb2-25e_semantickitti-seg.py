# Official cr 0.64.
_base_ = './linkencoder_cosx-2x3_4xb2-25e_semantickitti-seg.py'

model = dict(backbone=dict(channels=40), decode_head=dict(channels=5 * 40))
