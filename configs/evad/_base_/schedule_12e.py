# 12 epochs of 16 clips: warm-up over two epochs, a tenth of the rate from epoch 5 and again from epoch 8. No clipping.
# The head learns 8 times as fast as what is pretrained; vectors and the mask token do not decay.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_begin=5, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[5, 8], gamma=0.1),
]

_slow = dict(lr_mult=0.125)
_vector = dict(lr_mult=0.125, decay_mult=0.0)
_block_vectors = (
    'norm1',
    'norm2',
    'attn.q_bias',
    'attn.v_bias',
    'attn.proj.bias',
    'mlp.layers.0.0.bias',
    'mlp.layers.1.bias',
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4),  # of the head
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={
            'head.refinement.mask_token': dict(decay_mult=0.0),
            'backbone': _slow,
            'neck': _slow,
            'proposals': _slow,
            'backbone.patch_embed.projection.bias': _vector,
            'backbone.norm': _vector,
            **{f'backbone.blocks.{block}.{name}': _vector for block in range(24) for name in _block_vectors},
            **{f'neck.{convs}.{i}.conv.bias': _vector for convs in ('lateral_convs', 'fpn_convs') for i in range(4)},
        },
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
randomness = dict(seed=0)
