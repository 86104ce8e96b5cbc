# 5000 iterations and a fine-tuning tail of 5000.
_base_ = './schedule_160k.py'

iterations = 5000
train_cfg = dict(max_iters=iterations + 5000, val_interval=2500)
param_scheduler = [dict(type='MultiStepLR', by_epoch=False, milestones=[3000], gamma=0.1)]
custom_hooks = [dict(type='VOSCurriculumHook', iterations=iterations)]
