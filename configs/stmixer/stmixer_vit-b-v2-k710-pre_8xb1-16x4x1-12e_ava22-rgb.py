_base_ = [
    './_base_/stmixer_vit-b.py',
    './_base_/schedule_vit_12e.py',
    '../_base_/datasets/ava22.py',
    '../_base_/pipelines/clip_16x4.py',
]

model = dict(
    backbone=dict(init_cfg=dict(checkpoint='checkpoints/vit_b_k710_dl_from_giant.pth')),
    head=dict(loss_action=dict(loss_weight=48.0)),
)
train_dataloader = dict(batch_size=1, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(batch_size=1, dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
