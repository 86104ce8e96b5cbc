# Trains from random initialisation on two CPU cores: python tools/make_toy_data.py davis --out data/toy_davis
_base_ = ['./_base_/scored.py', './_base_/clips.py']

embed_dims = (32, 48, 96)
model = dict(
    # Frames have 128 x 224 pixels, and keep them.
    data_preprocessor=dict(test_size=None),
    backbone=dict(
        embed_dims=embed_dims,
        depths=(1, 1, 4),
        num_heads=3,
        token_depth=1,
        pos_grid=6,
        # Narrow layers need larger weights than the published ones for attention to tell tokens apart from the start.
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
        keys_as_queries=True,
    ),
    mask_head=dict(embed_dims=embed_dims),
    loss_ce=dict(start=2000, end=4500),
    test_cfg=dict(max_memory_frames=3, topk=dict(k=40)),
)

data_root = 'data/toy_davis'
num_frames = 3
load, whole, each = _base_.augmentation
whole['transforms'][1].update(size=96, area=(0.36, 1.0))
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        type='DAVISDataset',
        data_root=data_root,
        split='train',
        min_frames=num_frames,
        pipeline=[
            dict(type='VOSClipSample', num_frames=num_frames, max_jump=5),
            load,
            whole,
            each,
            *_base_.selection,
        ],
    ),
)
test_dataloader = dict(num_workers=1, dataset=dict(type='DAVISDataset', data_root=data_root, split='val'))
val_dataloader = test_dataloader

iterations = 6000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=3000)
param_scheduler = [
    dict(type='LinearLR', by_epoch=False, start_factor=0.01, begin=0, end=100),
    dict(
        type='CosineAnnealingLR', by_epoch=False, begin=100, end=iterations, T_max=iterations - 100, eta_min_ratio=0.02
    ),
]
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05), clip_grad=dict(max_norm=1.0)
)
auto_scale_lr = dict(enable=False, base_batch_size=4)
randomness = dict(seed=0)

default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=3000, save_best='vos/J&F', rule='greater'))
custom_hooks = [dict(type='VOSCurriculumHook', max_jumps=[(0.0, 3), (0.1, 5), (0.3, 8), (0.9, 5)])]
