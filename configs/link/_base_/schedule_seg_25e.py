# 25 epochs of SemanticKITTI on 4 GPUs x 2 samples: 2392 iterations each. The rate rises over 1000 iterations divided by
# the number of GPUs, then falls along a cosine, iteration by iteration.
max_epochs = 25
warmup_iters = 250
num_iters = max_epochs * 2392
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / warmup_iters, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='CosineAnnealingLR', by_epoch=False, T_max=num_iters, begin=warmup_iters, end=warmup_iters + num_iters),
]
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.24, momentum=0.9, nesterov=True, weight_decay=1e-4)
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=1588147245)
