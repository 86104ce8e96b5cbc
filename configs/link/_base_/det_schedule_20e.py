# One cycle over 20 epochs on 4 GPUs x 2 samples: the rate rises tenfold over the first 40 %, the momentum falls meanwhile.
max_epochs = 20
rise = 8
lr = 1e-4
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
cosine = dict(by_epoch=True, convert_to_iter_based=True)
up = dict(cosine, begin=0, end=rise, T_max=rise)
down = dict(cosine, begin=rise, end=max_epochs, T_max=max_epochs - rise)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=lr * 10, **up),
    dict(type='CosineAnnealingLR', eta_min=lr * 1e-4, **down),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, **up),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, **down),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=lr, betas=(0.95, 0.99), weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
sync_bn = 'torch'
# The last five epochs see no pasted objects.
custom_hooks = [dict(type='ResumableDisableObjectSampleHook', disable_after_epoch=15)]
