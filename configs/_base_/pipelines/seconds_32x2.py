# SlowFast-R50 and Swin: 32 frames, every 2nd, in the middle of the neighbouring seconds, long side at most 464.
train_pipeline = [
    dict(type='LoadSecondClips', clip_len=32, frame_interval=2),
    dict(type='ResizeShortSideTruncated', scale=256, max_long=464),
    dict(type='ClipHSVJitter', hue=10, saturation=26, value=26),
    dict(type='FlipClip', prob=0.5),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackPersonInputs'),
]
test_pipeline = [
    dict(type='LoadSecondClips', clip_len=32, frame_interval=2),
    dict(type='ResizeShortSideTruncated', scale=256, max_long=464),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackPersonInputs'),
]
