# UCF101-24, split 1: every annotated frame is a key frame with a clip of its own. The config adds the pipelines.
data_root = 'data/ucf101_24/'
ann_file = 'UCF101v2-GT.pkl'

train_dataloader = dict(
    batch_size=2,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='UCF101_24Dataset',
        data_root=data_root,
        ann_file=ann_file,
        data_prefix=dict(img='rgb-images'),
        split=1,
        num_classes=25,
    ),
)
val_dataloader = dict(
    batch_size=2,
    num_workers=8,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='UCF101_24Dataset',
        data_root=data_root,
        ann_file=ann_file,
        data_prefix=dict(img='rgb-images'),
        split=1,
        num_classes=25,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='ActionTubeMetric', ann_file=data_root + ann_file, split=1)
test_evaluator = val_evaluator
