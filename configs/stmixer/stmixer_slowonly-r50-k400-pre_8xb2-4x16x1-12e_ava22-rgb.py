_base_ = [
    './_base_/stmixer_slowonly-r50.py',
    './_base_/schedule_12e.py',
    '../_base_/datasets/ava22.py',
    '../_base_/pipelines/clip_4x16.py',
]

train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
