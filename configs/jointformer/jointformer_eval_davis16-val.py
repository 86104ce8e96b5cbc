# DAVIS 2016 val, one object per video.
_base_ = './_base_/scored.py'

test_dataloader = dict(dataset=dict(type='DAVISDataset', data_root='data/DAVIS/2016', split='val', year=2016))
val_dataloader = test_dataloader
