_base_ = [
    './_base_/evad_vit-l-ktp.py',
    './_base_/schedule_vit-l_12e.py',
    '../_base_/datasets/ava22.py',
    '../_base_/pipelines/clip_16x4_short288.py',
]

train_dataloader = dict(batch_size=1, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(batch_size=1, dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
