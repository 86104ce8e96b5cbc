# 300000 iterations of rendered videos, without a tail.
_base_ = './schedule_160k.py'

train_cfg = dict(max_iters=300000, val_interval=10000)
param_scheduler = [dict(type='MultiStepLR', by_epoch=False, milestones=[200000], gamma=0.1)]
custom_hooks = [dict(type='VOSCurriculumHook', max_jumps=[(0.0, 5), (0.1, 10), (0.3, 15), (0.8, 5)])]
