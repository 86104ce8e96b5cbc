# The toy model on clips whose frames are shuffled (the key frame stays): what it can tell without the order of time.
_base_ = './stmixer_r18_toy.py'

train_pipeline = [
    dict(type='SampleKeyFrameClip', clip_len=8, frame_interval=4),
    dict(type='ShuffleFrames'),
    dict(type='LoadClipFrames'),
    dict(type='ClipBoxes'),
    dict(type='ResizeShortSide', scale=96),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs'),
]
test_pipeline = train_pipeline
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
