# 30000 iterations and a fine-tuning tail of 10000.
_base_ = './schedule_160k.py'

iterations = 30000
train_cfg = dict(max_iters=iterations + 10000, val_interval=5000)
param_scheduler = [dict(type='MultiStepLR', by_epoch=False, milestones=[20000], gamma=0.1)]
custom_hooks = [dict(type='VOSCurriculumHook', iterations=iterations)]
