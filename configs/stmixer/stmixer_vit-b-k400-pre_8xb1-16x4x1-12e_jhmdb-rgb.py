_base_ = [
    './_base_/stmixer_vit-b.py',
    './_base_/schedule_vit_12e.py',
    '../_base_/datasets/jhmdb.py',
    '../_base_/pipelines/clip_16x4.py',
]

model = dict(head=dict(num_classes=21))
train_dataloader = dict(batch_size=1, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(batch_size=1, dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
