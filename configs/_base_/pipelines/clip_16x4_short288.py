# 16 frames, every 4th, around the key frame; flip, then short side 288, in training as in testing.
train_pipeline = [
    dict(type='SampleKeyFrameClip', clip_len=16, frame_interval=4),
    dict(type='LoadClipFrames'),
    dict(type='ClipBoxes'),
    dict(type='FlipClip', prob=0.5),
    dict(type='ResizeShortSide', scale=288),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='SampleKeyFrameClip', clip_len=16, frame_interval=4),
    dict(type='LoadClipFrames'),
    dict(type='ResizeShortSide', scale=288),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs'),
]
