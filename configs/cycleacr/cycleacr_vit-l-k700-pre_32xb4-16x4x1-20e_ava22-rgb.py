_base_ = [
    './_base_/cycleacr_vit-l.py',
    './_base_/schedule_vit_20e.py',
    '../_base_/datasets/ava22_persons.py',
    '../_base_/pipelines/seconds_16x4.py',
]

train_dataloader = dict(sampler=dict(type='DefaultSampler'), dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
