# AVA v2.2, frames and frame lists as PySlowFast lays them out. The config adds the pipelines.
data_root = 'data/ava/'
label_file = 'annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt'

train_dataloader = dict(
    batch_size=2,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='AVAKeyFrameDataset',
        data_root=data_root,
        ann_file='annotations/ava_train_v2.2.csv',
        frame_list='frame_lists/train.csv',
        data_prefix=dict(img='frames'),
        num_classes=81,
    ),
)
val_dataloader = dict(
    batch_size=2,
    num_workers=8,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='AVAKeyFrameDataset',
        data_root=data_root,
        ann_file='annotations/ava_val_v2.2.csv',
        frame_list='frame_lists/val.csv',
        data_prefix=dict(img='frames'),
        label_file=label_file,
        num_classes=81,
        test_mode=True,
    ),
)
val_evaluator = dict(
    type='AVAFrameMetric',
    ann_file=data_root + 'annotations/ava_val_v2.2.csv',
    exclude_file=data_root + 'annotations/ava_val_excluded_timestamps_v2.2.csv',
    label_file=data_root + label_file,
)
test_evaluator = val_evaluator
