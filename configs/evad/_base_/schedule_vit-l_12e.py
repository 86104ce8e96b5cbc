# As for ViT-B with half the batch and 0.4 of the rate.
_base_ = './schedule_12e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.25, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[5, 8], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=8e-5))
auto_scale_lr = dict(base_batch_size=8)
