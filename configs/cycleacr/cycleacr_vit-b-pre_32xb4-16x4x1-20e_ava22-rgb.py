_base_ = [
    './_base_/cycleacr_vit-b.py',
    './_base_/schedule_vit_20e.py',
    '../_base_/datasets/ava22_persons.py',
    '../_base_/pipelines/seconds_16x4.py',
]

optim_wrapper = dict(paramwise_cfg=dict(num_layers=12))
train_dataloader = dict(sampler=dict(type='DefaultSampler'), dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
