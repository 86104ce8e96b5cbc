# As the CNN schedule with half the batch and half the rate. Vectors of the backbone do not decay, all else does.
_base_ = './schedule_12e.py'

_no_decay = dict(decay_mult=0.0)
_vectors = (
    'norm1',
    'norm2',
    'attn.q_bias',
    'attn.v_bias',
    'attn.proj.bias',
    'mlp.layers.0.0.bias',
    'mlp.layers.1.bias',
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-5),
    paramwise_cfg=dict(
        _delete_=True,
        custom_keys={
            'backbone.patch_embed.projection.bias': _no_decay,
            'backbone.norm': _no_decay,
            **{f'backbone.blocks.{block}.{name}': _no_decay for block in range(12) for name in _vectors},
        },
    ),
)
auto_scale_lr = dict(base_batch_size=8)
