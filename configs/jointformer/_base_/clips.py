# What all clips of videos have in common: one change of the whole clip, one of each frame, at most three objects.
augmentation = [
    dict(type='TransformBroadcaster', transforms=[dict(type='LoadVOSFrame'), dict(type='LoadVOSMask')]),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='RandomFlip', prob=0.5),
            dict(type='RandomVOSResizedCrop', size=384, area=(0.36, 1.0)),
            dict(type='RandomVOSColorJitter', brightness=0.1, contrast=0.03, saturation=0.03),
            dict(
                type='RandomGrayscale',
                prob=0.05,
                keep_channels=True,
                channel_weights=(0.299, 0.587, 0.114),
                color_format='rgb',
            ),
        ],
    ),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='RandomVOSAffine', degrees=15, shear=10),
            dict(type='RandomVOSColorJitter', brightness=0.01, contrast=0.01, saturation=0.01),
        ],
    ),
]
clip = dict(type='VOSClipSample', num_frames=4, max_jump=5)
# In sets with a mask on every fifth frame, frames of a clip are as far apart in time as in the others.
sparse_clip = dict(type='VOSClipSample', num_frames=4, max_jump=5, jump_divisor=5)
selection = [dict(type='SelectVOSObjects', max_objects=3), dict(type='PackVOSInputs')]
train_pipeline = [clip, *augmentation, *selection]
sparse_pipeline = [sparse_clip, *augmentation, *selection]
train_dataloader = dict(
    batch_size=2, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True)
)
