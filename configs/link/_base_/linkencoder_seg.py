# LinKEncoder, cos_x:(2x3)^3: every voxel is classified from the features of the five levels, without a decoder.
_base_ = './linkunet_seg.py'

model = dict(
    backbone=dict(type='LinKEncoder'),
    decode_head=dict(type='LinKEncoderHead', channels=5 * 64),
)
