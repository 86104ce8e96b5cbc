# 4 frames, every 16th, around the key frame; short side 256 or 320, flip; tested at 256.
train_pipeline = [
    dict(type='SampleKeyFrameClip', clip_len=4, frame_interval=16),
    dict(type='LoadClipFrames'),
    dict(type='ClipBoxes'),
    dict(type='ResizeShortSide', scale=[256, 320]),
    dict(type='FlipClip', prob=0.5),
    dict(type='ClipBoxes'),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='SampleKeyFrameClip', clip_len=4, frame_interval=16),
    dict(type='LoadClipFrames'),
    dict(type='ClipBoxes'),
    dict(type='ResizeShortSide', scale=256),
    dict(type='ClipBoxes'),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs'),
]
