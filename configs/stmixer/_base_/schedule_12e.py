# 12 epochs of 16 clips: warm-up over two epochs, a tenth of the rate from epoch 5 and again from epoch 8. No clipping.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_begin=4, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[5, 8], gamma=0.1),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-5, weight_decay=1e-4),
    # Norms of the backbone do not decay; those of the decoder do.
    paramwise_cfg=dict(custom_keys={'.bn.': dict(decay_mult=0.0)}),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
randomness = dict(seed=2)
