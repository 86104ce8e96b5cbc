# 50000 steps of 32 clips. Cycle and interaction learn ten times as fast; biases twice as fast as their weights, and without
# decay; positions do not decay.
_base_ = 'mmaction::_base_/default_runtime.py'

train_cfg = dict(type='IterBasedTrainLoop', max_iters=50000, val_begin=30000, val_interval=5000)
val_cfg = dict(type='MemoryValLoop')
test_cfg = dict(type='MemoryTestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.25, by_epoch=False, begin=0, end=2001),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=50000, milestones=[30000, 40000], gamma=0.1),
]
_blocks = [
    *(f'cycle.{relation}_blocks.{i}' for relation in ('local_a2c', 'local_c2a', 'global_a2c') for i in range(2)),
    *(f'interaction.{kind}_blocks.{i}' for kind in ('person', 'memory') for i in range(2)),
]
_linears = [
    *(f'cycle.{name}' for name in ('actor_reduce', 'context_reduce', 'local_reduce', 'fuse')),
    *(f'{block}.{name}' for block in _blocks for name in ('query', 'key', 'value', 'out', 'shortcut')),
]
_positions = [
    'cycle.local_temporal_position',
    *(f'interaction.memory_blocks.{i}.{name}_position' for i in range(2) for name in ('key', 'value')),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=8e-4, momentum=0.9, weight_decay=1e-7),
    paramwise_cfg=dict(
        bias_lr_mult=2.0,
        bias_decay_mult=0.0,
        custom_keys={
            'head.cycle': dict(lr_mult=10.0),
            'head.interaction': dict(lr_mult=10.0),
            **{f'head.{name}.bias': dict(lr_mult=20.0, decay_mult=0.0) for name in _linears},
            **{f'head.{name}': dict(lr_mult=10.0, decay_mult=0.0) for name in _positions},
        },
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=32)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=3, save_best='mAP/overall'),
)
custom_hooks = [dict(type='MemoryBankHook')]
