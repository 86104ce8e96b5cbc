# 150000 iterations of static images on 6 GPUs x 4 clips, whose frames have no distance to change.
_base_ = './schedule_160k.py'

train_cfg = dict(max_iters=150000, val_interval=10000)
param_scheduler = [dict(type='MultiStepLR', by_epoch=False, milestones=[100000], gamma=0.1)]
auto_scale_lr = dict(base_batch_size=24)
custom_hooks = []
