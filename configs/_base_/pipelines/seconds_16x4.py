# ViT: 16 frames, every 4th, in the middle of the neighbouring seconds; trained on crops, tested whole.
train_pipeline = [
    dict(type='LoadSecondClips', clip_len=16, frame_interval=4),
    dict(type='ResizeShortSideTruncated', scale=256),
    dict(type='RandomClipCrop', size=224),
    dict(type='ClipHSVJitter', hue=10, saturation=26, value=26),
    dict(type='FlipClip', prob=0.5),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackPersonInputs'),
]
test_pipeline = [
    dict(type='LoadSecondClips', clip_len=16, frame_interval=4),
    dict(type='ResizeShortSideTruncated', scale=256),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackPersonInputs'),
]
