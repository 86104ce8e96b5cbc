# AVA v2.2 with person boxes, in the layout of AlphAction: one file per second, 25 frames per second. The config adds the
# pipelines.
data_root = 'data/ava/'

train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='AVAPersonDataset',
        data_root=data_root,
        ann_file='annotations/ava_train_v2.2.csv',
        data_prefix=dict(clips='clips/trainval'),
        num_classes=81,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=8,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='AVAPersonDataset',
        data_root=data_root,
        ann_file='annotations/ava_val_v2.2.csv',
        person_file='boxes/ava_val_det_person_bbox.json',
        image_file='annotations/ava_val_v2.2_min.json',
        person_score_thr=0.8,
        data_prefix=dict(clips='clips/trainval'),
        num_classes=81,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='AVAFrameMetric',
    ann_file=data_root + 'annotations/ava_val_v2.2.csv',
    exclude_file=data_root + 'annotations/ava_val_excluded_timestamps_v2.2.csv',
    label_file=data_root + 'annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt',
)
test_evaluator = val_evaluator
