# The toy config on a longer schedule, for a GPU: five times the epochs, larger batches, a longer refinement path.
_base_ = './deqdet_r18_toy.py'

max_epochs = 200
model = dict(roi_head=dict(refinement_steps=12, supervision_position=[1, 3, 6, 12]))
train_dataloader = dict(batch_size=32, num_workers=4)
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=max_epochs, eta_min_ratio=0.02, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=8e-4))
auto_scale_lr = dict(enable=False, base_batch_size=32)
