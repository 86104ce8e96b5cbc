# Toy videos with actions: python tools/make_toy_data.py ava --out data/toy_ava. The config adds the pipelines.
num_actions = 8
data_root = 'data/toy_ava/'
label_file = 'annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt'

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='AVAKeyFrameDataset',
        data_root=data_root,
        ann_file='annotations/ava_train_v2.2.csv',
        frame_list='frame_lists/train.csv',
        data_prefix=dict(img='frames'),
        label_file=label_file,
        num_classes=num_actions + 1,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
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
        num_classes=num_actions + 1,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='AVAFrameMetric',
    ann_file=data_root + 'annotations/ava_val_v2.2.csv',
    exclude_file=data_root + 'annotations/ava_val_excluded_timestamps_v2.2.csv',
    label_file=data_root + label_file,
    num_classes=num_actions + 1,
)
test_evaluator = val_evaluator
