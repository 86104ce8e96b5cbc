# 150000 iterations and a fine-tuning tail of 10000 on 6 GPUs x 2 clips; the backbone learns at a tenth, everything decays.
iterations = 150000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations + 10000, val_interval=10000)
param_scheduler = [dict(type='MultiStepLR', by_epoch=False, milestones=[100000], gamma=0.1)]
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.1),
)
auto_scale_lr = dict(enable=False, base_batch_size=12)
randomness = dict(seed=14159265)
custom_hooks = [dict(type='VOSCurriculumHook', iterations=iterations)]
