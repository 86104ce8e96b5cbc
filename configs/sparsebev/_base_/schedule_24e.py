# 24 epochs on 8 GPUs x 1 sample. The rate falls once per epoch; sampling offsets and the pretrained backbone learn at a tenth.
max_epochs = 24
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    # The full rate comes with iteration 500, which mmengine counts as one more.
    dict(type='LinearLR', start_factor=1.0 / 3, by_epoch=False, begin=0, end=501),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=max_epochs, eta_min_ratio=1e-3),
]
# Half precision for the backbone and the neck; the head asks for full precision itself.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale=512.0,
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.1), sampling_offset=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=35, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=0)
