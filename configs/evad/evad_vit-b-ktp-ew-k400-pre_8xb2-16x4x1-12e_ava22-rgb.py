_base_ = [
    './_base_/evad_vit-b.py',
    './_base_/schedule_12e.py',
    '../_base_/datasets/ava22.py',
    '../_base_/pipelines/clip_16x4_short288.py',
]

model = dict(backbone=dict(keep_rate=0.6, enhanced_weight=4.0), head=dict(refinement=dict(extend=(0.4, 0.2))))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
