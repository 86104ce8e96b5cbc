# AVA v2.1: other annotation files and another label list, the same videos.
_base_ = './ava22.py'

data_root = 'data/ava/'
label_file = 'annotations/ava_action_list_v2.1_for_activitynet_2018.pbtxt'

train_dataloader = dict(dataset=dict(ann_file='annotations/ava_train_v2.1.csv'))
val_dataloader = dict(dataset=dict(ann_file='annotations/ava_val_v2.1.csv'))
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file=data_root + 'annotations/ava_val_v2.1.csv',
    exclude_file=data_root + 'annotations/ava_val_excluded_timestamps_v2.1.csv',
    label_file=data_root + label_file,
)
test_evaluator = val_evaluator
