# 20 epochs of 128 clips; the rate falls by 0.8 from layer to layer. Vectors do not decay, positions do.
_base_ = 'mmaction::_base_/default_runtime.py'

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_interval=10)
val_cfg = dict(type='MemoryValLoop', fp16=True)
test_cfg = dict(type='MemoryTestLoop', fp16=True)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-8, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=5, end=20, T_max=15, eta_min=5e-7, convert_to_iter_based=True),
]
optim_wrapper = dict(
    type='AmpOptimWrapper',
    constructor='LearningRateDecayOptimizerConstructor',
    optimizer=dict(type='AdamW', lr=1.25e-4, weight_decay=0.05),
    paramwise_cfg=dict(decay_rate=0.8, decay_type='layer_wise', num_layers=24),
)
auto_scale_lr = dict(enable=False, base_batch_size=128)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3, save_best='mAP/overall'))
custom_hooks = [dict(type='MemoryBankHook')]
