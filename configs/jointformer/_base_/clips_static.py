# Clips of three views of one image and its one object; the folders are those that XMem and STCN prepared.
colour_grey = dict(
    type='RandomGrayscale', prob=0.05, keep_channels=True, channel_weights=(0.299, 0.587, 0.114), color_format='rgb'
)
train_pipeline = [
    dict(type='RepeatStaticImage', num_frames=3),
    dict(
        type='TransformBroadcaster',
        transforms=[dict(type='LoadVOSFrame'), dict(type='LoadVOSMask', brightness=True)],
    ),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='RandomVOSAffine', degrees=0, shear=0, scale=(0.8, 1.5), interpolation='nearest'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='RandomVOSColorJitter', brightness=0.1, contrast=0.05, saturation=0.05, hue=0.05),
            colour_grey,
        ],
    ),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(
                type='RandomVOSAffine',
                degrees=20,
                shear=10,
                scale=(0.9, 1.1),
                interpolation='bicubic',
                mask_interpolation='bicubic',
            ),
            dict(type='Resize', scale=(100000, 384), keep_ratio=True, interpolation='bicubic', backend='pillow'),
            dict(type='RandomCrop', crop_size=(384, 384)),
            dict(type='RandomVOSColorJitter', brightness=0.1, contrast=0.05, saturation=0.05),
            dict(type='RandomApply', prob=0.33, transforms=[dict(type='RandomThinPlateSpline')]),
            dict(type='BinariseVOSMask'),
        ],
    ),
    dict(type='SelectVOSObjects', max_objects=1),
    dict(type='PackVOSInputs'),
]
_repeats = dict(fss=1, **{'DUTS-TR': 1, 'DUTS-TE': 1}, ecssd=1, BIG_small=5, HRSOD_small=5)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='RepeatDataset',
                times=times,
                dataset=dict(
                    type='StaticVOSDataset',
                    data_root='data/static',
                    data_prefix=dict(img=folder, mask=folder),
                    pipeline=train_pipeline,
                ),
            )
            for folder, times in _repeats.items()
        ],
    ),
)
