_base_ = [
    './_base_/cycleacr_slowfast-r101.py',
    './_base_/schedule_50k.py',
    '../_base_/datasets/ava22_persons.py',
    '../_base_/pipelines/seconds_64x1.py',
]

train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
