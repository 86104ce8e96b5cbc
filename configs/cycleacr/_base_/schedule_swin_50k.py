# As the SlowFast schedule with three times the rate, but one rate for all weights.
_base_ = './schedule_50k.py'

optim_wrapper = dict(
    optimizer=dict(lr=2.4e-3),
    paramwise_cfg=dict(
        _delete_=True, bias_lr_mult=2.0, bias_decay_mult=0.0, custom_keys=dict(position=dict(decay_mult=0.0))
    ),
)
