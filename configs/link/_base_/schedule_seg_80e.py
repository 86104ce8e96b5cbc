# 80 epochs of nuScenes-lidarseg on 4 GPUs x 16 samples: 440 iterations each.
_base_ = './schedule_seg_25e.py'

max_epochs = 80
num_iters = max_epochs * 440
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / _base_.warmup_iters, by_epoch=False, begin=0, end=_base_.warmup_iters),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        T_max=num_iters,
        begin=_base_.warmup_iters,
        end=_base_.warmup_iters + num_iters,
    ),
]
auto_scale_lr = dict(base_batch_size=64)
