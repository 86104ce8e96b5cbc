# DAVIS 2017 val.
_base_ = './_base_/scored.py'

test_dataloader = dict(dataset=dict(type='DAVISDataset', data_root='data/DAVIS/2017/trainval', split='val'))
val_dataloader = test_dataloader
