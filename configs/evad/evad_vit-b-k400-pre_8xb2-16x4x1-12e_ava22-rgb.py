# All tokens are kept: what the other configs are measured against.
_base_ = [
    './_base_/evad_vit-b.py',
    './_base_/schedule_12e.py',
    '../_base_/datasets/ava22.py',
    '../_base_/pipelines/clip_16x4_short288.py',
]

train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
